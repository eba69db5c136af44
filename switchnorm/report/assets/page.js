"use strict";

// The figures bring data only. Their fonts, grids and backgrounds are the page's own, read from its CSS variables,
// so that one media query in page.css switches everything between light and dark.

const dark = matchMedia("(prefers-color-scheme: dark)");
const plots = [...document.querySelectorAll(".plot")];
const folded = (plot) => plot.closest("details:not([open])") !== null;

function template() {
  const style = getComputedStyle(document.documentElement);
  const css = (name) => style.getPropertyValue(name).trim();
  const font = { family: css("--sans"), size: 12, color: css("--muted") };
  const axis = { gridcolor: css("--rule"), linecolor: css("--rule"), zeroline: false, tickcolor: css("--rule"), tickfont: font };
  return {
    layout: {
      font,
      xaxis: axis,
      yaxis: axis,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      hoverlabel: { bgcolor: css("--raised"), bordercolor: css("--rule"), font: { ...font, color: css("--ink") } },
    },
  };
}

async function draw(plot) {
  const { data, layout, frames } = JSON.parse(plot.nextElementSibling.textContent);
  await Plotly.newPlot(plot, data, { ...layout, template: template() }, { responsive: true, displayModeBar: false });
  if (frames) await Plotly.addFrames(plot, frames);
  plot.removeAttribute("aria-busy");
}

// What is folded away has no size to draw into: its figures wait until somebody opens it.
function drawVisible() {
  plots.filter((plot) => !plot.data && !plot.drawing && !folded(plot)).forEach((plot) => {
    plot.drawing = true;
    plot.setAttribute("aria-busy", "true");
    draw(plot);
  });
}

// A legend is a row of buttons: each hides or shows one group in every figure of its section, article or fold.
function toggle(button) {
  const shown = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", shown);
  for (const plot of button.closest("details, article, section").querySelectorAll(".plot")) {
    const traces = plot.data.flatMap((trace, at) => (trace.legendgroup === button.value ? [at] : []));
    if (traces.length) Plotly.restyle(plot, { visible: shown }, traces);
  }
}

// A slider steps through the frames of the figure above it.
function step(slider) {
  const epoch = slider.dataset.epochs.split(" ")[slider.value];
  const plot = slider.closest("figure").querySelector(".plot");
  slider.setAttribute("aria-valuetext", `epoch ${epoch}`);
  slider.nextElementSibling.textContent = epoch;
  Plotly.animate(plot, [epoch], { mode: "immediate", transition: { duration: 0 }, frame: { duration: 0, redraw: true } });
}

plots.filter(folded).forEach((plot) => plot.removeAttribute("aria-busy"));
drawVisible();
document.querySelectorAll("details").forEach((fold) => fold.addEventListener("toggle", drawVisible));
dark.addEventListener("change", () =>
  plots.filter((plot) => plot.data).forEach((plot) => Plotly.relayout(plot, { template: template() })));
document.querySelectorAll("button[aria-pressed]").forEach((button) => button.addEventListener("click", () => toggle(button)));
document.querySelectorAll("input[type=range]").forEach((slider) => slider.addEventListener("input", () => step(slider)));
