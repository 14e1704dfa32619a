"""Style and script of a report's page."""

STYLE = """
:root { color-scheme: light; font: 16px/1.5 system-ui, Arial, sans-serif; color: #262730; background: #fff; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.8rem; } h2 { font-size: 1.35rem; margin-top: 2.5rem; } h3 { font-size: 1.1rem; }
.small { font-size: .85rem; color: #555; } .error { color: #a40000; }
blockquote { border-left: 4px solid #0072B2; margin: 1rem 0; padding: .25rem 1rem; background: #f4f7fa; white-space: pre-wrap; }
label { display: block; font-weight: 600; margin-top: 1rem; } label.small { font-weight: 400; }
textarea { width: 100%; box-sizing: border-box; font: inherit; padding: .5rem; border: 1px solid #888; border-radius: .4rem; }
button { font: inherit; cursor: pointer; } #save { margin-top: .5rem; padding: .3rem .9rem; }
.table > div { overflow: auto; max-height: 30rem; } table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: left; max-width: 26rem; }
td.number { white-space: nowrap; }
th { position: sticky; top: 0; background: #f4f7fa; } th button { border: 0; background: none; padding: 0; font-weight: 600; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
section { break-inside: avoid-page; } @media print { button, input { display: none; } .table > div { max-height: none; } }
"""

# Texts that the user wrote are put into the document, which is then saved as it is.
SCRIPT = """
const figures = JSON.parse(document.getElementById("figures").textContent);
const settings = { displaylogo: false, responsive: true };
figures.forEach((figure, number) => {
  const { width, ...layout } = figure.layout;
  Plotly.newPlot(`chart${number}`, figure.data, { ...layout, autosize: true }, settings);
});
for (const part of document.querySelectorAll(".table")) {
  const body = part.querySelector("tbody");
  part.querySelector("input").oninput = (event) => {
    const words = event.target.value.toLowerCase().split(/\\s+/).filter(Boolean);
    for (const row of body.rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  };
  part.querySelectorAll("th button").forEach((button, column) => {
    let up = -1;
    button.onclick = () => {
      up = -up;
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const rows = [...body.rows].sort((a, b) => {
        const [first, second] = [key(a), key(b)];
        return up * (isNaN(first - second) ? first.localeCompare(second) : first - second);
      });
      body.append(...rows);
    };
  });
}
document.getElementById("save").onclick = () => {
  for (const field of document.querySelectorAll("textarea")) field.textContent = field.value;
  const copy = document.documentElement.cloneNode(true);
  for (const chart of copy.querySelectorAll(".chart")) {
    chart.replaceChildren();
    chart.className = "chart";
  }
  for (const style of copy.querySelectorAll("style[id^=plotly]")) style.remove();
  const file = new Blob(["<!doctype html>", copy.outerHTML], { type: "text/html" });
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(file), download: "report.html" });
  link.click();
};
"""
