// Files that tools/site_live.py packed: xz inside, so that they are small on any server.

// The bytes of a response, unpacked by the stream of live/xz.mjs, which may still be on its way; `progress(n)` hears of each n packed bytes that come.
export async function unpacked(url, xz, progress = () => {}, signal = undefined) {
  const response = await fetch(url, {signal}).catch(error => { throw new Error(`${name(url)} could not be fetched (${error.message})`); });
  if (!response.ok) throw new Error(`${name(url)} could not be fetched (the server says ${response.status})`);
  const counted = new TransformStream({transform(chunk, out) { progress(chunk.length); out.enqueue(chunk); }});
  const Xz = await xz, stream = new Xz(response.body.pipeThrough(counted));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const name = url => new URL(url, location).pathname.split('/').at(-1);

// First all even bytes came, then all odd ones: put them back.
export function woven(bytes) {
  const whole = new Uint8Array(bytes.length), half = (bytes.length + 1) >> 1;
  for (let i = 0; i < half; i++) whole[2*i] = bytes[i];
  for (let i = half; i < bytes.length; i++) whole[2*(i - half) + 1] = bytes[i];
  return whole;
}
