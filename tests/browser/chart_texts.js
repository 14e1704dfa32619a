// What is wrong with the texts of an SVG: those that meet each other, that a lead strikes through, or that are cut off.
(svg, width, height) => {
  const host = document.createElement("div");
  host.style.cssText = "position:absolute;left:0;top:0";
  host.innerHTML = svg;
  document.body.append(host);
  const corners = (element) => {
    const box = element.getBBox(), matrix = element.getScreenCTM();
    const ends = [[0, 0], [1, 0], [1, 1], [0, 1]];
    return ends.map(([x, y]) => new DOMPoint(box.x + x * box.width, box.y + y * box.height).matrixTransform(matrix));
  };
  const shown = [...host.querySelectorAll("text")].filter((text) => text.textContent.trim() && getComputedStyle(text).opacity > 0);
  const texts = shown.map((text) => ({ words: text.textContent, at: corners(text) }));
  const axes = (shape) => [0, 1].map((side) => ({ x: shape[side + 1].y - shape[side].y, y: shape[side].x - shape[side + 1].x }));
  const slack = 1.5; // boxes hold the font's whole height, letters do not
  const apart = (first, second) => [...axes(first), ...axes(second)].some(({ x, y }) => {
    const length = Math.hypot(x, y) || 1;
    const along = (shape) => shape.map((point) => (point.x * x + point.y * y) / length);
    const [a, b] = [along(first), along(second)];
    return Math.max(...a) - slack <= Math.min(...b) || Math.max(...b) - slack <= Math.min(...a);
  });
  const found = [];
  texts.forEach((first, number) => texts.slice(number + 1).forEach((second) => {
    if (!apart(first.at, second.at)) found.push(`"${first.words}" meets "${second.words}"`);
  }));
  for (const { words, at } of texts) {
    const cut = at.some(({ x, y }) => x < -1 || y < -1 || x > width + 1 || y > height + 1);
    if (cut) found.push(`"${words}" is cut off`);
  }
  for (const path of host.querySelectorAll(".shapelayer path")) {
    const matrix = path.getScreenCTM(), length = path.getTotalLength();
    if (getComputedStyle(path).strokeDasharray !== "none") continue; // the reference line of dense
    for (const { words, at } of texts) {
      for (let part = 0; part <= 40; part += 1) {
        const point = path.getPointAtLength((part / 40) * length).matrixTransform(matrix);
        if (!apart(at, [point, point, point, point])) { found.push(`a lead strikes through "${words}"`); break; }
      }
    }
  }
  host.remove();
  return found;
}
