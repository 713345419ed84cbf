// Two runs: their Pareto fronts over any two figures.

function compareFronts(plot, { measures, runs }) {
  const named = (name) => plot.select_one(name);
  const axes = { x: document.getElementById("axis-x"), y: document.getElementById("axis-y") };

  function show() {
    const x = axes.x.value, y = axes.y.value;
    const seen = { x: { low: Infinity, high: -Infinity }, y: { low: Infinity, high: -Infinity } };
    runs.forEach(({ front, trials, chosen, budget }, run) => {
      const rows = front[`${x}|${y}`] ?? [];
      const column = (name) => rows.map((row) => trials[name][row]);
      const points = { x: rows.length ? column(x) : [], y: rows.length ? column(y) : [] };
      named(`front_${run}`).glyph.mode = better(x) > 0 ? "before" : "after";
      named(`front_${run}`).data_source.data = points;
      const about = rows.length ? { number: column("number"), genotype: column("genotype") } : { number: [], genotype: [] };
      named(`points_${run}`).data_source.data = { ...points, ...about };
      const there = Number.isFinite(chosen[x]) && Number.isFinite(chosen[y]);
      named(`chosen_${run}`).data_source.data = there ? { x: [chosen[x]], y: [chosen[y]] } : { x: [], y: [] };
      for (const [axis, name] of [["x", x], ["y", y]]) {
        const limit = named(`limit_${axis}_${run}`);
        limit.visible = budget[name] !== undefined;
        if (limit.visible) limit.location = budget[name];
        for (const value of points[axis]) extend(seen[axis], value);
        if (there) extend(seen[axis], chosen[name]);
      }
    });
    for (const [axis, name] of [["x", x], ["y", y]]) {
      let { low, high } = seen[axis].high === -Infinity ? { low: 0, high: 1 } : seen[axis];
      for (const { budget } of runs) if (budget[name] < 2 * high) high = Math.max(high, budget[name]);
      const pad = 0.06 * (high - low || Math.abs(high) || 1), range = plot[`${axis}_range`];
      range.setv({ start: low - pad, end: high + pad, reset_start: low - pad, reset_end: high + pad });
    }
    plot.below[0].axis_label = words(measures[x]);
    plot.left[0].axis_label = words(measures[y]);
  }

  for (const axis of Object.values(axes)) axis.addEventListener("change", show);
  show();
}
