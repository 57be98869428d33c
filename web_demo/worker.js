// Answers where the server can't be reached, from what main.js has kept.
addEventListener("fetch", (event) => {
  const kept = async (error) =>
    (await caches.match(event.request, { ignoreSearch: true })) ?? Promise.reject(error);
  event.respondWith(fetch(event.request).catch(kept));
});
