// How the search ranks: lessons before the pages to look things up in, those before signatures and solutions.
const weight = page => /^nbs\/\d\d_/.test(page) ? 40 : /^(index|live|play)$|^nbs\/reference\//.test(page) ? 20 : /^api\/|\/solutions\/|^CHANGELOG/.test(page) ? -20 : 0;

var Scorer = {
  score: ([page, , anchor, , score]) => score + weight(page) - (anchor ? 1 : 0),
  objNameMatch: 11, objPartialMatch: 6, objPrio: {0: 15, 1: 5, 2: -5}, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
};
