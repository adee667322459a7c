/** Keeps the page for use without a network, by way of `offline.html` (its script says why). */

/** Waits for the page to be usable first, so that what the service worker stores comes out of the HTTP cache. */
export function keepForOffline(composer: Element): void {
  if (!('serviceWorker' in navigator)) return;
  const register = (): void => {
    const frame = document.createElement('iframe');
    frame.src = new URL('offline.html', document.baseURI).href;
    frame.hidden = true;
    frame.title = 'Offline copy';
    document.body.append(frame);
  };
  const observer = new MutationObserver(() => {
    if (composer.getAttribute('data-state') !== 'ready') return;
    observer.disconnect();
    register();
  });
  observer.observe(composer, { attributeFilter: ['data-state'] });
}
