"use strict";

(() => {
  const read = (element) => JSON.parse(element.textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const options = {
    responsive: true,
    displaylogo: false,
    displayModeBar: matchMedia("(min-width: 40rem)").matches ? "hover" : false,
    modeBarButtonsToRemove: ["lasso2d", "select2d"],
  };

  // -- charts ---------------------------------------------------------------------------------------

  const colours = (isDark) => {
    const ink = isDark ? "#e6e9ed" : "#1c2127";
    const background = isDark ? "#1e2328" : "#ffffff";
    return {
      "font.color": ink,
      "hoverlabel.bgcolor": background,
      "hoverlabel.font.color": ink,
      "modebar.color": isDark ? "#a5afbb" : "#5a6472",
      "modebar.bgcolor": "rgba(0,0,0,0)",
    };
  };
  // The page contains each array once, however many lines share it.
  const arrays = read(document.getElementById("arrays"));
  const expanded = (value) => {
    if (Array.isArray(value)) return value.map(expanded);
    if (value === null || typeof value !== "object") return value;
    if (value.shared !== undefined) return arrays[value.shared];
    return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, expanded(part)]));
  };
  const drawn = new Set();
  const draw = (id, figure) => {
    const chart = document.getElementById(id);
    const { data, layout } = expanded(figure);
    drawn.add(chart);
    return Plotly.react(chart, data, layout, options).then(() =>
      Plotly.relayout(chart, colours(dark.matches)));
  };
  const recolour = (isDark) => drawn.forEach((chart) => Plotly.relayout(chart, colours(isDark)));

  document.querySelectorAll("script.figure").forEach((element) => draw(element.dataset.chart, read(element)));
  dark.addEventListener("change", () => recolour(dark.matches));
  addEventListener("beforeprint", () => recolour(false));
  addEventListener("afterprint", () => recolour(dark.matches));

  const feed = document.getElementById("feed");
  const prices = feed && read(document.getElementById("price-figures"));
  const showPrice = () => {
    const { figure, caption } = prices[feed.value];
    document.getElementById("price-caption").textContent = caption;
    document.getElementById("chart-price").setAttribute("aria-label", `Price by time. ${caption}`);
    draw("chart-price", figure);
  };
  if (feed) {
    feed.addEventListener("change", showPrice);
    showPrice();
  }

  // -- journal --------------------------------------------------------------------------------------

  const source = document.getElementById("journal-rows");
  if (!source) return;
  const rows = read(source);
  const texts = rows.map((row) => row.join(" ").toLowerCase());
  const PAGE = 100, ACTION = 3;
  const search = document.getElementById("search");
  const action = document.getElementById("action");
  const body = document.querySelector("#journal tbody");
  const [newer, older] = [document.getElementById("newer"), document.getElementById("older")];
  let first = 0, found = [];

  [...new Set(rows.map((row) => row[ACTION]))].sort().forEach((name) => action.add(new Option(name, name)));

  const show = () => {
    const shown = found.slice(first, first + PAGE);
    body.replaceChildren(...shown.map((place) => {
      const line = document.createElement("tr");
      rows[place].forEach((value) => { line.insertCell().textContent = value; });
      return line;
    }));
    const last = first + shown.length;
    document.getElementById("found").textContent =
      `${found.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} decisions`;
    document.getElementById("page").textContent = found.length ? `${first + 1} to ${last}` : "none";
    newer.disabled = first === 0;
    older.disabled = last >= found.length;
  };
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    first = 0;
    found = [...rows.keys()].filter((place) =>
      (!action.value || rows[place][ACTION] === action.value) &&
      words.every((word) => texts[place].includes(word)));
    show();
  };
  search.addEventListener("input", filter);
  action.addEventListener("change", filter);
  newer.addEventListener("click", () => { first -= PAGE; show(); });
  older.addEventListener("click", () => { first += PAGE; show(); });
  filter();
})();
