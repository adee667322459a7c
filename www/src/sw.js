/**
 * The service worker: keeps every file of this version of the site, so that the page works without a network.
 *
 * It answers from its own cache first and never stores anything the page did not ship with. A new version installs
 * beside the old one and takes over when the last tab of the old one is closed, so a run is never cut off.
 * The build fills in the two capitalised names.
 */
const CACHE = `lorahub-${__VERSION__}`;
const FILES = __FILES__;

self.addEventListener('install', (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)));
});

self.addEventListener('activate', (event) => {
  event.waitUntil(
    (async () => {
      for (const name of await caches.keys()) {
        if (name.startsWith('lorahub-') && name !== CACHE) await caches.delete(name);
      }
      await self.clients.claim();
    })(),
  );
});

self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method !== 'GET' || new URL(request.url).origin !== self.location.origin) return;
  event.respondWith(
    (async () => {
      const cache = await caches.open(CACHE);
      return (await cache.match(request, { ignoreSearch: true })) ?? fetch(request);
    })(),
  );
});
