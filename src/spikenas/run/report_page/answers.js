// Answers: a click on the confusion matrix filters the mistakes, a click on a sample draws its spikes.

function showAnswers(answers) {
  filterMistakes();
  const buttons = [...document.querySelectorAll(".samples button")];
  buttons.forEach((button, index) => {
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      drawSample(answers, answers.samples[index]);
    });
  });
  buttons[0]?.click();
}

function filterMistakes() {
  const cells = [...document.querySelectorAll(".matrix button")];
  const pictures = [...document.querySelectorAll(".mistakes figure")];
  const readout = document.getElementById("confusion"), before = readout?.textContent;
  for (const cell of cells) {
    cell.addEventListener("click", () => {
      const pressed = cell.getAttribute("aria-pressed") !== "true";
      for (const other of cells) other.setAttribute("aria-pressed", String(pressed && other === cell));
      let shown = 0;
      for (const picture of pictures) {
        const same = picture.dataset.true === cell.dataset.true && picture.dataset.answered === cell.dataset.answered;
        picture.hidden = pressed && !same;
        shown += picture.hidden ? 0 : 1;
      }
      readout.textContent = pressed ? `${cell.title}${shown ? `; ${shown} shown` : ""}` : before;
    });
  }
}

function drawSample(answers, sample) {
  for (const row of document.querySelectorAll(".raster")) {
    const name = row.dataset.layer, neurons = answers.layers[name];
    const canvas = row.querySelector("canvas"), rate = sample.rates[name];
    canvas.width = neurons;
    canvas.height = answers.steps;
    const context = canvas.getContext("2d"), bytes = atob(sample.spikes[name]);
    context.fillStyle = "#4a86e8";
    for (let i = 0; i < neurons * answers.steps; i++) {
      if (bytes.charCodeAt(i >> 3) & (128 >> (i & 7))) context.fillRect(i % neurons, Math.floor(i / neurons), 1, 1);
    }
    row.querySelector(".rate").textContent = `${(100 * rate).toFixed(1)}%`;
    row.querySelector(".track span").style.width = `${(100 * rate) / answers.highest}%`;
  }
  const best = sample.outputs.map((value, index) => [value, index]).sort((a, b) => b[0] - a[0]).slice(0, 3);
  const verdict = sample.true === sample.answered ? "right" : `wrong, it is ${answers.classes[sample.true]}`;
  document.getElementById("sample").textContent =
    `Test image ${sample.image}: answered ${answers.classes[sample.answered]}, ${verdict}. Highest outputs: ` +
    best.map(([value, index]) => `${answers.classes[index]} with ${round(value)}`).join(", ");
}
