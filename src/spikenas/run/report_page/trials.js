// The scatter of trials: any two figures as axes, and what a click on a trial tells.

function trialScatter(plot) {
  const trials = page.trials;
  const named = (name) => plot.select_one(name);
  const sources = ["screened", "trained", "refused"].map((kind) => named(`points_${kind}`).data_source);
  const axes = { x: document.getElementById("axis-x"), y: document.getElementById("axis-y") };

  function show() {
    const x = axes.x.value, y = axes.y.value;
    for (const source of sources) {
      const data = source.data;
      data.x.set(data[x]);
      data.y.set(data[y]);
      data.floor.set(data[y].map((value) => (Number.isFinite(value) ? NaN : 0.015)));
      source.change.emit();
    }
    const [fronts_x, fronts_y] = trials.fronts[`${x}|${y}`] ?? [[], []];
    const front = named("front");
    front.glyph.mode = better(x) > 0 ? "before" : "after";
    front.data_source.data = { x: fronts_x, y: fronts_y };
    const best = chosenPoint(x, y);
    named("chosen").data_source.data = { x: best.map((p) => p[0]), y: best.map((p) => p[1]) };
    setRange(plot.x_range, x, y, "over_x", "left");
    setRange(plot.y_range, y, x, "over_y", "bottom");
    plot.below[0].axis_label = words(trials.measures[x]);
    plot.left[0].axis_label = words(trials.measures[y]);
  }

  function chosenPoint(x, y) {
    let best = [];
    for (const { data } of sources) {
      data.genotype.forEach((genotype, i) => {
        const there = Number.isFinite(data[x][i]) && Number.isFinite(data[y][i]);
        // Several trainings of the chosen network: the longest is the one that decided.
        if (genotype === trials.chosen && there && (!best.length || data.epochs[i] >= best[0][2])) {
          best = [[data[x][i], data[y][i], data.epochs[i]]];
        }
      });
    }
    return best;
  }

  // From what is measured on both axes; refused trials far outside would press all others into a corner, so the range
  // ends somewhat behind the limit or the last of the others, and zooming out finds the rest.
  function setRange(range, name, other, annotation, edge) {
    const within = { low: Infinity, high: -Infinity }, all = { low: Infinity, high: -Infinity };
    sources.forEach(({ data }, index) => {
      data[name].forEach((value, i) => {
        if (!Number.isFinite(value)) return;
        extend(all, value);
        if (index < 2 && Number.isFinite(data[other][i])) extend(within, value);
      });
    });
    const limit = trials.budget[name], rising = better(name) > 0;
    let { low, high } = within.high === -Infinity ? all : within;
    if (!rising) {
      low = 0;
      high = Math.max(high, Math.min(all.high, limit === undefined ? 1.25 * high : 1.6 * limit));
      if (limit !== undefined && high > 0.5 * limit) high = Math.max(high, limit);
    }
    const pad = 0.06 * (high - low || Math.abs(high) || 1);
    range.setv({ start: low - (rising ? pad : pad / 2), end: high + pad });
    range.setv({ reset_start: range.start, reset_end: range.end });
    const box = named(annotation);
    box.visible = limit !== undefined;
    if (box.visible) box[edge] = limit;
  }

  for (const axis of Object.values(axes)) axis.addEventListener("change", show);
  for (const source of sources) {
    source.selected.properties.indices.change.connect(() => {
      if (source.selected.indices.length) tellTrial(source.data, source.selected.indices[0]);
    });
  }
  show();
}

function words([text, unit]) {
  return unit ? `${text}, ${unit}` : text;
}

function extend(range, value) {
  range.low = Math.min(range.low, value);
  range.high = Math.max(range.high, value);
}

function better(name) {
  return name === "score" || name === "accuracy" ? 1 : -1;
}

async function tellTrial(data, index) {
  const trials = page.trials, place = document.getElementById("trial");
  place.dataset.asked = data.number[index];
  details ??= unpacked(trials.details);
  const { pictures, cells, layers } = await details;
  if (place.dataset.asked !== String(data.number[index])) return; // another trial was clicked meanwhile
  const genotype = data.genotype[index];
  const figures = Object.entries(trials.measures)
    .filter(([name]) => Number.isFinite(data[name][index]))
    .map(([name, [text, unit]]) => `${text} ${round(data[name][index])}${unit && ` ${unit}`}`);
  const how = data.epochs[index] ? `${data.measure[index]}, ${data.epochs[index]} epochs` : data.measure[index];
  const parts = [
    element("b", {}, `Trial ${data.number[index]}: ${how}, ${data.state[index]}`),
    element("code", {}, genotype),
    element("span", {}, figures.join(" · ")),
  ];
  if (data.reason[index]) parts.push(element("span", {}, data.reason[index]));
  if (cells[genotype]) parts.push(trialCells(cells[genotype].map((number) => pictures[number])));
  if (layers[genotype]?.length) parts.push(layerTable(layers[genotype]));
  else parts.push(...command("What each of its layers costs", `spikenas cost ${quoted(genotype)} ${trials.cost}`));
  if (trials.train) {
    const train = trials.train.replace("GENOTYPE", () => quoted(genotype));
    parts.push(...command("Train it", train.replace(/OUT$/, `runs/trial-${data.number[index]}`)));
  }
  place.replaceChildren(...parts);
}

let details; // what all trials' cells and layers are, once somebody asks

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

function trialCells(drawings) {
  const figures = drawings.map((drawing, index) =>
    element("figure", {}, element("figcaption", {}, drawings.length > 1 ? `Cell ${index + 1}` : "Cell"), picture(drawing)));
  return element("div", { class: "cells" }, ...figures);
}

function layerTable(rows) {
  const heads = ["Layer", "Kind", "Flash, bytes", "Buffer, bytes", "MACs", "Synops", "Energy, nJ"];
  const body = rows.map(([name, kind, ...numbers]) =>
    element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, kind),
      ...numbers.map((number) => element("td", { class: "number" }, number ? number.toLocaleString("en") : ""))));
  const head = element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text)));
  const table = element("table", { class: "layers" }, element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { class: "scroll" }, table,
    element("p", { class: "note" }, "By its graph alone: 15% of neurons spike at a step."));
}

function command(title, text) {
  const copy = element("button", { type: "button", "data-copy": text }, "Copy");
  return [element("span", {}, title), element("div", { class: "command" }, element("code", {}, text), copy)];
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
