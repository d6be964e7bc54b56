"use strict";
{
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const checks = [...document.querySelectorAll("details.check")];

  // The page has its data only in the tables, so the charts read them there.
  const seriesOf = (check) => {
    const series = {};
    for (const table of check.querySelectorAll("table[data-series]")) {
      series[table.dataset.series] = [...table.tBodies[0].rows].map((row) => ({
        x: Number(row.cells[0].textContent),
        y: Number(row.cells[1].textContent),
      }));
    }
    series.limits = [...check.querySelectorAll(".limit[data-kind=seconds] data")].map((limit) => ({
      y: Number(limit.value),
      name: `limit of ${limit.closest("tr").cells[0].textContent}`,
    }));
    return series;
  };

  // The text of a figure is rounded; its tooltip has the exact value.
  for (const figure of document.querySelectorAll("data")) figure.title = figure.value;

  const draw = (place) => {
    if (place.classList.contains("drawn")) return;
    place.classList.add("drawn");
    const { caption, spec } = charts[place.dataset.chart];
    const room = place.clientWidth;
    const datasets = seriesOf(place.closest("details.check"));
    place.textContent = "";
    vegaEmbed(
      place,
      {
        ...spec,
        datasets,
        layer: spec.layer.filter((layer) => datasets[layer.data.name]?.length),
        description: `${caption}. The figures are in the tables under Data.`,
        autosize: { type: "fit-x", contains: "padding" },
        width: Math.max(room, 280),
      },
      {
        // Without `ast`, Vega compiles expressions, which the page's Content-Security-Policy forbids.
        ast: true,
        actions: false,
        defaultStyle: false,
        mode: "vega-lite",
        renderer: "svg",
        tooltip: false,
      },
    );
  };

  const visibility = new IntersectionObserver(
    (entries) => entries.forEach((entry) => entry.isIntersecting && draw(entry.target)),
    { rootMargin: "200px" },
  );
  document.querySelectorAll(".chart").forEach((place) => visibility.observe(place));
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details.check[open]:not([hidden]) .chart").forEach(draw);
  });

  const form = document.querySelector(".filter");
  const words = document.getElementById("words");
  const texts = checks.map((check) => {
    const shown = check.querySelectorAll("summary .test, summary .stem, summary .headline, .where");
    return [...shown].map((element) => element.textContent).join(" ").toLowerCase();
  });
  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/);
    const verdicts = new FormData(form).getAll("verdict");
    let shown = 0;
    checks.forEach((check, index) => {
      const fits = wanted.every((word) => texts[index].includes(word));
      check.hidden = !(fits && verdicts.includes(check.dataset.verdict));
      shown += !check.hidden;
    });
    form.querySelector("output").value = `${shown} of ${checks.length} shown`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = !checks.length;
  // A browser that returns to a page restores the text of the filter.
  filter();
}
