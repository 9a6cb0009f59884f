// The settings in the address line. Browsers refuse more than a hundred changes in half a minute, so a hand that drags makes few.
const PAUSE = 400;
let due = 0, waiting;

export function remember(query) {
  const {dataset} = document.documentElement;
  const write = () => {
    due = performance.now() + PAUSE;
    delete dataset.writing;
    history.replaceState(null, '', `?${query}${location.hash}`);
  };
  clearTimeout(waiting);
  const rest = due - performance.now();
  if (rest <= 0) return write();
  dataset.writing = 'soon';
  waiting = setTimeout(write, rest);
}
