"use strict";

// Draw each chart when it comes near the screen, and the rest when the browser has nothing to do.
(() => {
  const idle = window.requestIdleCallback || ((work) => setTimeout(work, 200));
  const waiting = new Map();
  const begun = [];
  const draw = (element) => {
    const work = waiting.get(element);
    waiting.delete(element);
    seen.unobserve(element);
    if (work) begun.push(work());
    return begun.at(-1);
  };
  const seen = new IntersectionObserver((entries) => entries
    .filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)), { rootMargin: "400px" });
  const later = (element, work) => {
    waiting.set(element, work);
    seen.observe(element);
  };
  const drawRest = async () => {
    const next = waiting.keys().next();
    if (next.done) {
      await Promise.all(begun); // some were begun by scrolling, and still unpack their data
      document.documentElement.dataset.drawn = "all";
      return;
    }
    await draw(next.value);
    idle(drawRest);
  };

  // -- charts of lines ------------------------------------------------------------------------------

  document.querySelectorAll("script.lines").forEach((block) => {
    const box = document.getElementById(block.dataset.chart);
    later(box, async () => Page.lineChart(box, box.previousElementSibling, await Page.unpack(block)));
  });
  Page.dark.addEventListener("change", Page.recolour);
  addEventListener("beforeprint", () => Page.print(true));
  addEventListener("afterprint", () => Page.print(false));

  // -- prices ---------------------------------------------------------------------------------------

  const feed = document.getElementById("feed");
  const blocks = [...document.querySelectorAll("script.prices")];
  let shown = null, turn = 0, logarithmic = false;
  const showFeed = async (name) => {
    const block = blocks.find((one) => one.dataset.name === name);
    const mine = ++turn;
    const spec = await Page.unpack(block);
    if (mine !== turn) return shown; // another data feed was chosen meanwhile
    const box = document.getElementById("chart-price");
    const keys = document.getElementById("price-keys");
    if (shown) Page.remove(shown.chart);
    keys.replaceChildren();
    document.getElementById("price-caption").textContent = block.dataset.caption;
    box.setAttribute("aria-label", `Price by time. ${block.dataset.caption}`);
    const status = document.getElementById("price-status");
    status.textContent = "";
    shown = spec.close.length ? Page.priceChart(box, keys, status, spec) : null;
    if (shown) {
      shown.log(logarithmic);
      shown.all();
    }
    return shown;
  };
  if (feed) {
    feed.addEventListener("change", () => showFeed(feed.value));
    document.getElementById("zoom").addEventListener("click", ({ target }) => {
      if (!shown || !target.dataset.zoom) return;
      const value = target.dataset.zoom;
      if (value === "all") shown.all();
      else if (value.endsWith("d")) shown.since(parseFloat(value));
      else shown.zoom(parseFloat(value));
    });
    const log = document.getElementById("log");
    log.addEventListener("click", () => {
      logarithmic = !logarithmic;
      log.setAttribute("aria-pressed", logarithmic);
      if (shown) shown.log(logarithmic);
    });
    showFeed(feed.value).then(() => idle(drawRest));
  } else idle(drawRest);

  // -- a page that is written again and again -----------------------------------------------------

  const { refresh, written } = document.documentElement.dataset;
  if (refresh) {
    const seconds = parseFloat(refresh);
    const fields = ["search", "action", "of-feed"].map((id) => document.getElementById(id));
    setInterval(() => {
      document.getElementById("stale").hidden = Date.now() / 1000 - written < 3 * seconds + 10;
      // Who has filtered the journal reads it.
      if (!document.hidden && fields.every((field) => !field || !field.value)) location.reload();
    }, 1000 * seconds);
    document.getElementById("stale").hidden = Date.now() / 1000 - written < 3 * seconds + 10;
  }

  // -- journal --------------------------------------------------------------------------------------

  const source = document.getElementById("journal-lines");
  if (!source) return;
  const names = new Set(blocks.map((block) => block.dataset.name));
  const showOnChart = async (name, seconds) => {
    feed.value = name;
    const chart = await showFeed(name);
    document.getElementById("chart-price").scrollIntoView({ block: "center" });
    if (chart) chart.goTo(seconds);
  };
  later(document.getElementById("journal-pane"), async () =>
    Page.journal(await Page.unpack(source), showOnChart, names));
})();
