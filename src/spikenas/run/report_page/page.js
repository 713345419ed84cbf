// The page's behaviour: copies texts, tells about buffers, draws Bokeh's charts, and calls the other scripts.

const page = JSON.parse(document.getElementById("page-data").textContent);

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("[data-copy]");
  if (!button) return;
  let done = "Copied";
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    getSelection().selectAllChildren(button.previousElementSibling);
    done = "Selected";
  }
  button.textContent = done;
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

for (const place of document.querySelectorAll("[data-block]")) {
  place.append(picture(page.network[place.dataset.block]));
}

for (const box of document.querySelectorAll(".map .box")) {
  const tell = () => { document.getElementById("buffer").textContent = box.title; };
  for (const event of ["pointerenter", "focus", "click"]) box.addEventListener(event, tell);
}

// --- charts ---------------------------------------------------------------------------------------------

const plots = {}; // Bokeh's views by the element they are in

async function drawCharts() {
  for (const item of page.charts) {
    const views = await Bokeh.embed.embed_item(item);
    plots[item.target_id] = views.roots[0];
  }
  if (plots.trials) trialScatter(plots.trials.model);
  if (page.compared) compareFronts(plots.fronts.model, page.compared);
  if (page.answers) showAnswers(page.answers);
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
}

// Charts take their colours from the page's style, but do not notice when it changes.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const view of Object.values(plots)) view.request_repaint();
});

function round(value) {
  return value.toLocaleString("en", { maximumSignificantDigits: value < 1000 ? 4 : 6 });
}

drawCharts();
