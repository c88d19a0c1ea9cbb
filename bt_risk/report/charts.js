"use strict";

// What every chart of the page shares: its data, its colours, its legend, and charts of lines.
const Page = { charts: new Set() };

// -- data -------------------------------------------------------------------------------------------

// Data are compressed JSON; a chart unpacks its own when it is drawn.
Page.unpack = async (element) => {
  const packed = atob(element.textContent.trim());
  const bytes = new Uint8Array(packed.length);
  // Uint8Array.from with a function takes more than ten times as long.
  for (let place = 0; place < packed.length; place += 1) bytes[place] = packed.charCodeAt(place);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
};

// Numbers are differences in whole units; null stands for a value that is not known.
Page.sums = (steps, unit = 1) => {
  let sum = 0;
  return steps.map((step) => (step === null ? null : (sum += step) * unit));
};

Page.digits = (unit) => Math.min(Math.max(0, -Math.floor(Math.log10(unit) + 1e-9)), 10);

Page.forms = {
  percent: (value) => `${(100 * value).toFixed(Math.abs(value) < 0.0995 ? 2 : 1).replace(/^-(0\.0+)$/, "$1")} %`,
  money: (value) => value.toLocaleString("en", { maximumFractionDigits: Math.abs(value) < 1000 ? 2 : 0 }),
  number: (value) => value.toLocaleString("en", { maximumFractionDigits: 2 }),
};

Page.date = (seconds, hours) => {
  const text = new Date(seconds * 1000).toISOString();
  return hours ? `${text.slice(0, 10)} ${text.slice(11, 16)}` : text.slice(0, 10);
};

// -- colours ----------------------------------------------------------------------------------------

Page.dark = matchMedia("(prefers-color-scheme: dark)");

Page.theme = () => {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const grid = { color: colour("--grid") };
  return {
    layout: {
      background: { type: "solid", color: colour("--background") },
      textColor: colour("--text"),
      panes: { separatorColor: colour("--border"), separatorHoverColor: colour("--grid") },
    },
    grid: { vertLines: grid, horzLines: grid },
    rightPriceScale: { borderColor: colour("--border") },
    timeScale: { borderColor: colour("--border") },
  };
};

Page.recolour = () => Page.charts.forEach((chart) => {
  chart.applyOptions(Page.theme());
  chart.titles.forEach((title) => title());
});

// A print is light, and it waits for no animation frame: a picture stands for each chart, which the
// library draws at once when one is taken.
Page.print = (begins) => {
  document.documentElement.toggleAttribute("data-print", begins);
  Page.recolour();
  document.querySelectorAll(".printed").forEach((picture) => picture.remove());
  if (!begins) return;
  Page.charts.forEach((chart) => {
    const picture = chart.takeScreenshot(true);
    picture.className = "printed";
    chart.chartElement().parentElement.after(picture);
  });
};

// -- charts -----------------------------------------------------------------------------------------

Page.create = (box, hours, many = false) => {
  const chart = LightweightCharts.createChart(box, {
    autoSize: true,
    localization: { locale: "en", timeFormatter: (time) => Page.date(time, hours) },
    crosshair: { mode: LightweightCharts.CrosshairMode.Normal },
    // The page scrolls over a chart: only with Ctrl does the wheel zoom, and a finger moves sideways.
    handleScroll: { mouseWheel: false, vertTouchDrag: false },
    handleScale: { mouseWheel: false, axisPressedMouseMove: true },
  });
  chart.applyOptions(Page.theme());
  chart.applyOptions({
    layout: { attributionLogo: false, fontFamily: getComputedStyle(document.body).fontFamily },
    rightPriceScale: { minimumWidth: 64 },
    timeScale: { timeVisible: hours, minBarSpacing: 0.001, rightOffset: 0, enableConflation: many },
  });
  box.addEventListener("wheel", (event) => {
    chart.applyOptions({ handleScale: { mouseWheel: event.ctrlKey || event.metaKey } });
  }, { capture: true, passive: true });
  chart.titles = [];
  Page.charts.add(chart);
  return chart;
};

Page.remove = (chart) => {
  Page.charts.delete(chart);
  chart.remove();
};

Page.format = (form, unit) => ({ type: "custom", minMove: unit, formatter: Page.forms[form] });

// Spans of time are shaded by bars as high as the pane.
Page.shade = (chart, times, spans, pane) => {
  if (!spans.length) return;
  const series = chart.addSeries(LightweightCharts.HistogramSeries, {
    color: "rgba(214, 69, 69, 0.16)", priceScaleId: "", base: 0,
    lastValueVisible: false, priceLineVisible: false,
  }, pane);
  series.priceScale().applyOptions({ scaleMargins: { top: 0, bottom: 0 } });
  const inside = new Set(spans.flatMap(([from, to]) =>
    Array.from({ length: to - from + 1 }, (_, place) => from + place)));
  series.setData([...inside].filter((place) => place < times.length).sort((a, b) => a - b)
    .map((place) => ({ time: times[place], value: 1 })));
};

// A button for each line: what it is, its value under the pointer, and whether it is shown.
Page.key = (keys, name, colour, shown, toggle) => {
  const button = document.createElement("button");
  const [swatch, label, value] = ["i", "span", "output"].map((tag) => document.createElement(tag));
  button.type = "button";
  button.className = "key";
  button.setAttribute("aria-pressed", shown);
  swatch.style.background = colour;
  label.textContent = name;
  button.append(swatch, label, value);
  button.addEventListener("click", () => {
    const now = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", now);
    toggle(now);
  });
  keys.append(button);
  return value;
};

Page.title = (chart, pane, text) => {
  const lines = () => [{ text, fontSize: 12, color: Page.theme().layout.textColor }];
  const mark = LightweightCharts.createTextWatermark(chart.panes()[pane], {
    horzAlign: "left", vertAlign: "top", lines: lines(),
  });
  chart.titles.push(() => mark.applyOptions({ lines: lines() }));
};

// A line that ends where values are unknown: the library would draw on to the next known value, so
// the first point of a gap repeats the last value, and what leads on from there has no colour.
Page.points = (times, values) => {
  const points = [];
  let last = null;
  values.forEach((value, place) => {
    if (value !== null) points.push({ time: times[place], value });
    else if (last !== null) points.push({ time: times[place], value: last, color: "transparent" });
    last = value;
  });
  return points;
};

Page.addLine = (chart, times, line, form, pane) => {
  const { LineSeries, BaselineSeries, LineType } = LightweightCharts;
  const shade = `${line.color}40`;
  const series = chart.addSeries(line.fill ? BaselineSeries : LineSeries, {
    ...(line.fill ? {
      baseValue: { type: "price", price: 0 }, topLineColor: line.color, bottomLineColor: line.color,
      topFillColor1: shade, topFillColor2: shade, bottomFillColor1: shade, bottomFillColor2: shade,
    } : { color: line.color }),
    lineWidth: line.width, lineStyle: line.dash, visible: !line.hidden,
    lineType: line.stairs ? LineType.WithSteps : LineType.Simple,
    priceFormat: Page.format(form, line.unit), lastValueVisible: false, priceLineVisible: false,
    crosshairMarkerRadius: 3,
  }, pane);
  const values = Page.sums(line.steps, line.unit);
  series.setData(line.fill
    ? values.map((value, place) => (value === null ? { time: times[place] } : { time: times[place], value }))
    : Page.points(times, values));
  return series;
};

Page.lineChart = (box, keys, spec) => {
  const times = Page.sums(spec.times);
  const chart = Page.create(box, spec.hours);
  const outputs = new Map();
  const together = new Map(); // lines of one name in several panes have one button
  spec.panes.forEach((pane, number) => {
    pane.lines.forEach((line) => {
      const series = Page.addLine(chart, times, line, pane.form, number);
      const known = together.get(line.name);
      if (known) known.push(series);
      else {
        const all = [series];
        together.set(line.name, all);
        const output = Page.key(keys, line.name, line.color, !line.hidden,
          (visible) => all.forEach((one) => one.applyOptions({ visible })));
        outputs.set(series, [output, Page.forms[pane.form]]);
      }
      if (line === pane.lines[0]) {
        pane.limits.forEach(({ value, label, color }) => series.createPriceLine({
          price: value, color, title: label, lineWidth: 1, lineStyle: 2, axisLabelVisible: true,
        }));
        // A level belongs to the pane even where no value comes near it.
        const levels = pane.limits.map((limit) => limit.value);
        series.applyOptions({ autoscaleInfoProvider: (original) => Page.withLevels(original(), levels) });
        series.priceScale().applyOptions({ invertScale: pane.inverted });
      }
    });
    Page.shade(chart, times, spec.bands, number);
    Page.title(chart, number, pane.title);
    chart.panes()[number].setStretchFactor(pane.height);
  });
  chart.subscribeCrosshairMove((event) => outputs.forEach(([output, form], series) => {
    const point = event.seriesData.get(series);
    output.textContent = point && point.value !== undefined ? form(point.value) : "";
  }));
  chart.timeScale().fitContent();
  return chart;
};

Page.withLevels = (info, levels) => {
  if (!info || !info.priceRange || !levels.length) return info;
  const { minValue, maxValue } = info.priceRange;
  const reach = Math.max(maxValue - minValue, Math.abs(maxValue), Math.abs(minValue));
  // A level that is far away would flatten every line.
  const near = levels.filter((level) => level <= maxValue + 4 * reach && level >= minValue - 4 * reach);
  return {
    ...info,
    priceRange: { minValue: Math.min(minValue, ...near), maxValue: Math.max(maxValue, ...near) },
  };
};
