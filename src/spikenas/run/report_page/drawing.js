// Elements, and pictures of cells: dots are values, wires lead through pills with the words of an operation.

const SVG = "http://www.w3.org/2000/svg", DOT = 13, LINE = 14;

function element(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function shape(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function picture({ size: [width, height], title, dots, lines }) {
  const wires = lines.map(([path, kind]) =>
    shape("path", { class: `wire ${kind}`, d: path, "marker-end": `url(#arrow-${kind === "delayed" ? kind : "plain"})` }));
  const pills = lines.map(([, kind, x, y, w, h, words, about]) =>
    shape("g", { class: `pill ${kind}` }, shape("title", {}, about),
      shape("rect", { x: x - w / 2, y: y - h / 2, width: w, height: h, rx: 6 }),
      ...words.map((word, row) => shape("text", { x, y: y + (row - (words.length - 1) / 2) * LINE }, word))));
  const points = dots.map(([x, y, label, about]) =>
    shape("g", { class: "dot" }, shape("title", {}, about),
      shape("circle", { cx: x, cy: y, r: DOT }), shape("text", { x, y }, label)));
  const frame = { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": title };
  return shape("svg", frame, ...wires, ...pills, ...points);
}
