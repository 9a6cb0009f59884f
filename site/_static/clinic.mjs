// What a schedule does to samples: the numbers of `diagnose` (the schedule clinic), from alpha_bar, entries 0..T.
// tests/contracts/test_site.py compares them with the Python.

export const brightnessStd = (pixels, spread = 0.5) => Math.sqrt(pixels)*spread;

// The spread that all steps with a perfect denoiser give for data N(0, std_0^2), begun with std_T.
export function walkBackStd(alphaBar, std_0, eta, std_T = 1) {
  let variance = std_T**2;
  for (let t = alphaBar.length - 1; t > 0; t--) {
    const [at, as] = [alphaBar[t], alphaBar[t - 1]], v = at*std_0**2 + 1 - at, fresh = eta**2*(1 - at/as)*(1 - as)/(1 - at);
    const factor = Math.sqrt(as*at)*std_0**2/v + Math.sqrt(Math.max(1 - as - fresh, 0))*Math.sqrt(1 - at)/v;
    variance = factor**2*variance + fresh;
  }
  return Math.sqrt(variance);
}

const three = x => `${+x.toPrecision(3)}`;

// Sentences that say what to change; none if nothing need change.
export function prescribe(alphaBar, pixels) {
  const std = brightnessStd(pixels), T = alphaBar.length - 1, a = alphaBar[T], loud = Math.max(std**2, 20), advice = [];
  if (a*loud > 0.2) {
    const k = Math.log(0.1/loud)/Math.log(a), most = Math.max(...alphaBar.slice(1).map((v, i) => 1 - v/alphaBar[i]));
    const cure = k*most < 1 ? `multiply every beta by about ${three(k)}` : 'take more steps or cosine_schedule';
    advice.push(`x_T is not noise yet (signal rate ${three(Math.sqrt(a))}): ${cure}.`);
  }
  const kept = walkBackStd(alphaBar, std, 1, Math.sqrt(a*std**2 + 1 - a))/std, noise = Math.sqrt(1 - alphaBar[1]);
  if (kept < 0.9) advice.push(`The steps are too coarse (even from the right start they keep ${Math.round(100*kept)}% of the brightness): take more than ${T}.`);
  if (noise > 0.1) advice.push(`Fine detail is lost at t=1 (noise of ${Math.round(127.5*noise)} grey levels): make the first beta smaller; 1e-4 is usual.`);
  return advice;
}

export function diagnose(alphaBar, pixels) {
  const std = brightnessStd(pixels), a = alphaBar.at(-1), signal = Math.sqrt(a);
  return {
    signal_T: signal, start_bias: signal*std, kl_T: -Math.log1p(-a)/2/Math.log(2), kept_ddpm: walkBackStd(alphaBar, std, 1)/std, kept_ddim: walkBackStd(alphaBar, std, 0)/std,
    first_noise: Math.sqrt(1 - alphaBar[1]), advice: prescribe(alphaBar, pixels),
  };
}

// alpha_bar of signal rates given at a few shares u of the way, straight lines between them.
export function fromRates(u, rates, T) {
  let k = 0;
  return Array.from({length: T + 1}, (_, t) => {
    while (k < u.length - 2 && t/T > u[k + 1]) k++;
    return (rates[k] + (rates[k + 1] - rates[k])*(t/T - u[k])/(u[k + 1] - u[k]))**2;
  });
}
