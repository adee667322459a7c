/**
 * Inside `offline.html`, a hidden frame: registers the service worker.
 *
 * The page's own policy allows workers from a Blob only, for one from a URL would escape that policy. A service worker
 * cannot come from a Blob, so this frame, which never sees what is typed, registers it.
 */

// A refusal (private window, storage switched off) costs only the offline use.
navigator.serviceWorker?.register('sw.js').catch(() => undefined);
