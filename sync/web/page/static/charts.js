"use strict";
// Charts of the last day or month, out of what the database keeps. Where there is nothing yet, it is said when they begin.
(() => {
  const section = document.getElementById("charts");
  if (!section || typeof uPlot === "undefined") return;
  const plots = document.getElementById("plots");
  const EVERY_MS = 60000;
  const HOUR = 3600;
  const seconds = (value) => (value >= 2 * HOUR ? `${(value / HOUR).toFixed(1)} h` : value >= 120 ? `${Math.round(value / 60)} min` : `${value} s`);
  const number = (value) => Number(value).toLocaleString("en");
  const short = (value) => Number(value).toLocaleString("en", { notation: "compact" }); // an axis has no room for millions
  const CHARTS = [
    { title: "Behind", format: seconds, lines: [["lag", "behind", "--link"]] },
    { title: "Codes written", format: number, bars: true, lines: [["codes", "codes", "--link"]] },
    { title: "Changes in the outbox", format: number, lines: [["waiting", "waiting", "--link"], ["attention", "held or refused", "--attention"]] },
    { title: "Requests", format: number, bars: true, lines: [["requests", "requests", "--link"], ["failed", "failed", "--failing"]] },
    { title: "Drift, by the last audits", format: number, lines: [["drift", "codes", "--attention"]] },
  ];
  let span = "day";
  let drawn = [];

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function summary(chart, series) {
    return chart.lines.map(([key, label]) => {
      const known = series.lines[key].filter((value) => value !== null);
      if (!known.length) return `${label}: nothing noted`;
      return `${label}: ${chart.format(known[known.length - 1])} when last noted, at most ${chart.format(Math.max(...known))}`;
    }).join("; ");
  }

  function options(chart, width) {
    const axis = { stroke: color("--soft"), grid: { stroke: color("--rule"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const date = (at) => {
      const iso = new Date(at * 1000).toISOString();
      return span === "day" ? iso.slice(11, 16) : iso.slice(5, 10);
    };
    return {
      width, height: 130, legend: { show: false }, cursor: { show: false }, padding: [8, 34, 0, 0], // the last label of the axis stands half beyond its line
      scales: { x: { time: true }, y: { range: (plot, low, high) => [0, Math.max(high || 0, 1) * 1.1] } },
      axes: [
        { ...axis, grid: { show: false }, values: (plot, ats) => ats.map((at, nth) => (nth < ats.length - 1 ? date(at) : `${date(at)} UTC`)), space: 60, size: 26 },
        { ...axis, values: (plot, values) => values.map((value) => (Number.isInteger(value) || value >= 10 ? (chart.format === number ? short : chart.format)(Math.round(value)) : "")), size: 58, space: 34 },
      ],
      series: [{}, ...chart.lines.map(([, label, tone]) => ({
        label, stroke: color(tone), width: 1.5, points: { show: false },
        fill: chart.bars ? `${color(tone)}55` : undefined,
        paths: chart.bars ? uPlot.paths.bars({ size: [0.9] }) : uPlot.paths.stepped({ align: -1 }),
      }))],
    };
  }

  function draw(series) {
    for (const plot of drawn) plot.destroy();
    plots.replaceChildren();
    // All have their place before any is measured: the grid is as wide as all of them make it.
    const places = CHARTS.map((chart) => {
      const figure = document.createElement("figure");
      const caption = document.createElement("figcaption");
      const title = document.createElement("h3");
      const words = document.createElement("p");
      title.textContent = chart.title;
      words.textContent = summary(chart, series);
      caption.append(title, words);
      const place = document.createElement("div");
      place.className = "plot";
      place.setAttribute("role", "img");
      place.setAttribute("aria-label", `${chart.title}: ${words.textContent}`);
      figure.append(caption, place);
      plots.append(figure);
      return place;
    });
    drawn = CHARTS.map((chart, nth) => {
      const lines = chart.lines.map(([key]) => series.lines[key]);
      return new uPlot(options(chart, places[nth].clientWidth), [series.at, ...lines], places[nth]);
    });
  }

  let latest = null;
  let isEmpty = true;
  async function look() {
    if (document.hidden) return;
    try {
      const answer = await fetch(`${section.dataset.source}&span=${span}`, { cache: "no-store" });
      if (!answer.ok) return;
      latest = await answer.json();
      isEmpty = latest.lines.waiting.every((value) => value === null);
      section.hidden = false;
      document.getElementById("no-plots").hidden = !isEmpty;
      document.getElementById("spans").hidden = isEmpty;
      if (!isEmpty) draw(latest);
    } catch {
      // The page itself says that the daemon does not answer.
    }
  }

  for (const button of section.querySelectorAll("[data-span]")) {
    button.addEventListener("click", () => {
      span = button.dataset.span;
      for (const other of section.querySelectorAll("[data-span]")) other.setAttribute("aria-pressed", String(other === button));
      look();
    });
  }
  const again = () => { if (!isEmpty) draw(latest); };
  let width = window.innerWidth;
  window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; again(); } });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  look();
  setInterval(look, EVERY_MS);
})();
