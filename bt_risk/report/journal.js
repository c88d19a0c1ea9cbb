"use strict";

// The journal: only the rows in sight exist, so that a long one scrolls as fast as a short one.
Page.journal = (journal, showOnChart, feeds) => {
  const time = Page.sums(journal.time);
  const columns = ["data", "action", "reason", "rule"];
  const numbers = ["requested", "allowed", "measured", "limit"];
  const text = (name, line) => journal[name].texts[journal[name].codes[line]];
  const when = (line) => (time[line] === null || time[line] === undefined ? "" : Page.date(time[line], journal.hours));
  const count = journal.action.codes.length;
  const texts = Array.from({ length: count }, (_, line) =>
    [when(line), ...columns.map((name) => text(name, line))].join(" ").toLowerCase());

  const [search, action, feed] = ["search", "action", "of-feed"].map((id) => document.getElementById(id));
  const pane = document.getElementById("journal-pane");
  const body = document.querySelector("#journal tbody");
  const [above, below] = ["above", "below"].map((id) => document.getElementById(id));
  const options = (select, name) =>
    [...journal[name].texts].sort().filter(Boolean).forEach((one) => select.add(new Option(one, one)));
  options(action, "action");
  options(feed, "data");

  let found = [], height = 36;
  const link = (line) => {
    const name = text("data", line);
    if (!feeds.has(name) || !when(line)) return document.createTextNode(when(line));
    const button = document.createElement("button");
    button.type = "button";
    button.className = "link";
    button.textContent = when(line);
    button.title = "Show on the chart";
    button.addEventListener("click", () => showOnChart(name, time[line]));
    return button;
  };
  const row = (line) => {
    const element = document.createElement("tr");
    element.insertCell().append(link(line));
    columns.forEach((name) => {
      const cell = element.insertCell();
      cell.textContent = text(name, line);
      if (name === "reason") cell.title = cell.textContent;
    });
    numbers.forEach((name) => { element.insertCell().textContent = journal[name][line]; });
    return element;
  };
  const draw = () => {
    const first = Math.max(0, Math.floor(pane.scrollTop / height) - 10);
    const last = Math.min(found.length, first + Math.ceil(pane.clientHeight / height) + 20);
    above.style.height = `${first * height}px`;
    below.style.height = `${(found.length - last) * height}px`;
    body.replaceChildren(...found.slice(first, last).map(row));
    if (body.firstChild) height = body.firstChild.getBoundingClientRect().height || height;
  };
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = texts.flatMap((one, line) => (
      (!action.value || text("action", line) === action.value)
      && (!feed.value || text("data", line) === feed.value)
      && words.every((word) => one.includes(word)) ? [line] : []));
    document.getElementById("found").textContent =
      `${found.length.toLocaleString("en")} of ${count.toLocaleString("en")} decisions`;
    pane.scrollTop = 0;
    draw();
  };
  search.addEventListener("input", filter);
  action.addEventListener("change", filter);
  feed.addEventListener("change", filter);
  pane.addEventListener("scroll", () => requestAnimationFrame(draw));
  addEventListener("resize", draw);
  filter();
};
