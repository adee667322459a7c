/** Keeps the screen on while work runs, where the browser can. */

export class WakeLock {
  #wanted = false;
  #lock: WakeLockSentinel | undefined;
  readonly #again = (): void => {
    if (document.visibilityState === 'visible') void this.#request();
  };

  hold(): void {
    if (this.#wanted) return;
    this.#wanted = true;
    // Browsers drop the lock when the tab is hidden.
    document.addEventListener('visibilitychange', this.#again);
    void this.#request();
  }

  release(): void {
    this.#wanted = false;
    document.removeEventListener('visibilitychange', this.#again);
    void this.#lock?.release();
    this.#lock = undefined;
  }

  async #request(): Promise<void> {
    if (!('wakeLock' in navigator)) return;
    try {
      const lock = await navigator.wakeLock.request('screen');
      if (this.#wanted) this.#lock = lock;
      else void lock.release();
    } catch {
      // Refused (low battery, hidden tab): the run goes on, only the screen may turn off.
    }
  }
}
