// Guess first: a form says what is wrong and asks what it will do; its right picture is covered until the reader wants to see.
export function quiz(form, shown) {
  const find = name => form.querySelector(name), veil = find('.veil'), picture = veil.previousElementSibling;
  let question = null;

  function cover(yes) {
    veil.hidden = !yes;
    picture.classList.toggle('hidden', yes);
  }

  function choice(words, i) {
    const label = document.createElement('label'), radio = document.createElement('input');
    Object.assign(radio, {type: 'radio', name: 'answer', value: i});
    label.append(radio, ` ${words}`);
    return label;
  }

  find('.reveal').addEventListener('click', () => {
    const {options, truth, why} = question, picked = form.querySelector('[name=answer]:checked');
    cover(false);
    find('.reveal').hidden = true;
    const what = options[truth][0].toLowerCase() + options[truth].slice(1);
    find('legend').textContent = 'What happens';
    find('.options').textContent = `${!picked ? `What happens: ${what}.` : +picked.value === truth ? 'Yes.' : `No: ${what}.`} ${why}`;
    shown();
  });

  return {
    covers: () => !veil.hidden,
    // {what, options, truth, why, of: 'the dots'}, or null for no question
    ask(asked) {
      question = asked;
      cover(!!asked);
      find('.guess').hidden = !asked;
      if (!asked) return;
      find('legend').textContent = `Before you look: what will ${asked.of} do?`;
      find('.guess .what').textContent = asked.what;
      find('.options').replaceChildren(...asked.options.map(choice));
      find('.reveal').hidden = false;
    },
  };
}
