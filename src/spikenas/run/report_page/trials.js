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
    plot.below[0].axis_label = words(x);
    plot.left[0].axis_label = words(y);
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

  function words(name) {
    const [text, unit] = trials.measures[name];
    return unit ? `${text}, ${unit}` : text;
  }

  for (const axis of Object.values(axes)) axis.addEventListener("change", show);
  for (const source of sources) {
    source.selected.properties.indices.change.connect(() => {
      if (source.selected.indices.length) tellTrial(source.data, source.selected.indices[0]);
    });
  }
  show();
}

function extend(range, value) {
  range.low = Math.min(range.low, value);
  range.high = Math.max(range.high, value);
}

function better(name) {
  return name === "score" || name === "accuracy" ? 1 : -1;
}

function tellTrial(data, index) {
  const trials = page.trials;
  const line = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
  const figures = Object.entries(trials.measures)
    .filter(([name]) => Number.isFinite(data[name][index]))
    .map(([name, [text, unit]]) => `${text} ${round(data[name][index])}${unit && ` ${unit}`}`);
  const how = data.epochs[index] ? `${data.measure[index]}, ${data.epochs[index]} epochs` : data.measure[index];
  const genotype = data.genotype[index];
  const command = `spikenas cost '${genotype.replaceAll("'", "'\\''")}' ${trials.command}`;
  const lines = [
    line("b", `Trial ${data.number[index]}: ${how}, ${data.state[index]}`),
    line("code", genotype),
    line("span", figures.join(" · ")),
    line("code", command),
  ];
  if (data.reason[index]) lines.splice(3, 0, line("span", data.reason[index]));
  document.getElementById("trial").replaceChildren(...lines);
}
