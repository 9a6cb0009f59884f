// Keeps what was visited, so that it opens again without a network. An address with ?v= names its bytes and is never asked for
// twice; all else is asked for anew, and taken from what is kept if no answer comes.
const KEPT = `ddpm_lesson ${registration.scope}`;
const fixed = url => new URL(url).searchParams.has('v');
const ours = url => url.startsWith(registration.scope);

// One copy of a file: an older version goes, and the settings in a page's address don't count.
async function keep(url, response) {
  if (!response.ok || response.redirected) return;
  const cache = await caches.open(KEPT), bare = url.split(/[?#]/)[0];
  if (fixed(url)) await cache.delete(bare, {ignoreSearch: true});
  await cache.put(fixed(url) ? url : bare, response);
}

const kept = async url => (await caches.open(KEPT)).match(url, {ignoreSearch: !fixed(url)});

async function answer(request) {
  const have = fixed(request.url) && await kept(request.url);
  if (have) return have;
  try {
    const response = await fetch(request);
    keep(request.url, response.clone()).catch(() => {});  // a full disk is no reason not to answer
    return response;
  } catch (error) {
    const old = await kept(request.url);
    if (old) return old;
    throw error;
  }
}

addEventListener('install', () => skipWaiting());
addEventListener('activate', event => event.waitUntil(clients.claim()));
addEventListener('fetch', event => {
  const {request} = event;
  if (request.method === 'GET' && ours(request.url) && !request.headers.has('range')) event.respondWith(answer(request));
});

// The first visit began before this file was here: the page says what it loaded, and that is kept too.
addEventListener('message', event => event.waitUntil(Promise.allSettled(event.data.filter(ours).map(async url => {
  if (!await kept(url)) await keep(url, await fetch(url));
})).then(() => event.source.postMessage('kept'))));
