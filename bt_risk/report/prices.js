"use strict";

// The chart of one data feed: candles, our stop, marks of fills and of refused and cut orders.
Page.marks = {
  entry: { label: "entries", one: "entry", color: "#2e9e6b" },
  exit: { label: "exits", one: "exit", color: "#3b82c4" },
  stop: { label: "stopped out", color: "#d64545", shape: "square", position: "aboveBar" },
  refused: { label: "refused", color: "#8a8f98", shape: "circle", position: "aboveBar" },
  cut: { label: "cut", color: "#8b5cf6", shape: "circle", position: "belowBar" },
};

Page.candles = (spec, times) => {
  const { unit } = spec;
  const closes = Page.sums(spec.close);
  return times.map((time, place) => {
    const close = closes[place];
    const open = place ? closes[place - 1] + spec.open[place - 1] : spec.first;
    const high = Math.max(open, close) + spec.high[place];
    const low = Math.min(open, close) - spec.low[place];
    return { time, open: open * unit, high: high * unit, low: low * unit, close: close * unit };
  });
};

Page.eventMarks = (spec, times) => Object.entries(spec.events).flatMap(([kind, found]) => {
  const style = Page.marks[kind];
  return Page.sums(found.at).map((place, number) => {
    const side = found.side[number];
    const arrow = { shape: side > 0 ? "arrowUp" : "arrowDown", position: side > 0 ? "belowBar" : "aboveBar" };
    return {
      time: times[place], place, kind, color: style.color,
      shape: style.shape || arrow.shape, position: style.position || arrow.position,
      text: "", told: Page.told(style.one || style.label, found, number),
    };
  });
}).sort((one, other) => one.place - other.place);

Page.told = (label, found, number) => {
  const text = found.text ? ` ${found.text[number]}` : "";
  const more = found.count[number] - 1;
  return `${label}${text}${more ? ` (and ${more} more)` : ""}`;
};

// A line of the library goes on to the next known value; a stop ends with its position. So each
// candle with a stop has a stroke of its own, joined to that of the candle before.
Page.stopLine = (chart, series, stop) => {
  let visible = true, update = () => {};
  const draw = (target) => target.useBitmapCoordinateSpace((scope) => {
    const seen = chart.timeScale().getVisibleLogicalRange();
    if (!visible || !seen) return;
    const { context, horizontalPixelRatio: wide, verticalPixelRatio: high } = scope;
    const half = chart.timeScale().options().barSpacing / 2;
    context.strokeStyle = "#d97706";
    context.lineWidth = 2 * high;
    context.beginPath();
    const first = Math.max(0, Math.floor(seen.from)), last = Math.min(stop.length - 1, Math.ceil(seen.to));
    for (let place = first; place <= last; place += 1) {
      if (stop[place] === null) continue;
      const x = chart.timeScale().logicalToCoordinate(place);
      const y = series.priceToCoordinate(stop[place]) * high;
      if (place > first && stop[place - 1] !== null) context.lineTo((x - half) * wide, y);
      else context.moveTo((x - half) * wide, y);
      context.lineTo((x + half) * wide, y);
    }
    context.stroke();
  });
  const view = { zOrder: () => "top", renderer: () => ({ draw }) };
  return {
    attached: (host) => { update = host.requestUpdate; },
    paneViews: () => [view],
    autoscaleInfo: (from, to) => {
      const known = visible ? stop.slice(Math.max(0, Math.floor(from)), Math.ceil(to) + 1).filter((one) => one !== null) : [];
      if (!known.length) return null;
      const [minValue, maxValue] = known.reduce(([low, high], one) => [Math.min(low, one), Math.max(high, one)],
        [Infinity, -Infinity]);
      return { priceRange: { minValue, maxValue } };
    },
    show: (now) => {
      visible = now;
      update();
    },
  };
};

Page.priceChart = (box, keys, status, spec) => {
  const { CandlestickSeries, createSeriesMarkers } = LightweightCharts;
  const times = Page.sums(spec.times);
  const chart = Page.create(box, spec.hours, true);
  const digits = Page.digits(spec.unit);
  const price = (value) => value.toFixed(digits);
  const format = { type: "custom", minMove: spec.unit, formatter: price };
  const bare = { lastValueVisible: false, priceLineVisible: false };
  const series = chart.addSeries(CandlestickSeries, {
    ...bare, priceFormat: format, upColor: "#6f9d8b", wickUpColor: "#6f9d8b", downColor: "#b57a7a",
    wickDownColor: "#b57a7a", borderVisible: false,
  });
  const candles = Page.candles(spec, times);
  series.setData(candles);
  const stop = Page.sums(spec.stop, spec.unit);
  const stopLine = Page.stopLine(chart, series, stop);
  series.attachPrimitive(stopLine);
  Page.shade(chart, times, spec.bands, 0);

  const marks = Page.eventMarks(spec, times);
  const hidden = new Set();
  // Marks of a whole run would cover its prices.
  const sizeOf = (count) => (count < 250 ? 1 : count < 1000 ? 0.6 : 0.35);
  let size = 0.35;
  const layer = createSeriesMarkers(series, [], { autoScale: false });
  const showMarks = () => layer.setMarkers(
    marks.filter((mark) => !hidden.has(mark.kind)).map((mark) => ({ ...mark, size })));
  series.priceScale().applyOptions({ scaleMargins: { top: 0.08, bottom: 0.08 } });
  if (stop.some((value) => value !== null)) {
    Page.key(keys, "stop", "#d97706", true, stopLine.show);
  }
  Object.keys(spec.events).forEach((kind) => {
    const { label, color } = Page.marks[kind];
    const count = spec.events[kind].count.reduce((sum, one) => sum + one, 0);
    Page.key(keys, `${count.toLocaleString("en")} ${label}`, color, true, (visible) => {
      hidden[visible ? "delete" : "add"](kind);
      showMarks();
    });
  });

  const byPlace = new Map();
  marks.forEach((mark) => byPlace.set(mark.place, [...(byPlace.get(mark.place) || []), mark]));
  const places = new Map(times.map((time, place) => [time, place]));
  const tell = (place) => {
    const bar = candles[place];
    const level = stop[place] === null ? "" : `, stop ${price(stop[place])}`;
    const told = (byPlace.get(place) || []).filter((mark) => !hidden.has(mark.kind)).map((mark) => mark.told);
    const [open, high, low, close] = [bar.open, bar.high, bar.low, bar.close].map(price);
    status.textContent = [`${Page.date(bar.time, spec.hours)}  open ${open}, high ${high}, low ${low}, `
      + `close ${close}${level}`, ...told].join("; ");
  };
  chart.subscribeCrosshairMove((event) => {
    if (event.time !== undefined && places.has(event.time)) tell(places.get(event.time));
  });

  const scale = chart.timeScale();
  scale.subscribeVisibleLogicalRangeChange((seen) => {
    const wanted = seen ? sizeOf(seen.to - seen.from) : size;
    if (wanted !== size) {
      size = wanted;
      showMarks();
    }
  });
  showMarks();
  const last = times.length - 1;
  const show = (from, to) => scale.setVisibleLogicalRange({ from: from - 0.5, to: to + 0.5 });
  const after = (seconds) => {
    const place = times.findIndex((time) => time >= seconds);
    return place < 0 ? last : place;
  };
  const range = () => scale.getVisibleLogicalRange() || { from: 0, to: last };
  return {
    chart,
    log: (on) => series.priceScale().applyOptions({ mode: on ? 1 : 0 }),
    all: () => show(0, Math.max(last, 1)),
    since: (days) => {
      const to = Math.min(last, Math.ceil(range().to));
      show(Math.min(after(times[to] - days * 86400), to - 1), to);
    },
    zoom: (factor) => {
      const { from, to } = range();
      const [middle, half] = [(from + to) / 2, Math.max(5, (to - from) / 2 * factor)];
      scale.setVisibleLogicalRange({ from: Math.max(-1, middle - half), to: Math.min(last + 1, middle + half) });
    },
    goTo: (seconds) => {
      const next = times.findIndex((time) => time > seconds);
      const place = Math.max(0, next < 0 ? last : next - 1);
      const half = Math.min(60, Math.max(10, box.clientWidth / 14));
      const from = Math.min(Math.max(0, place - half), Math.max(0, last - 2 * half));
      show(from, from + 2 * half);
      // The pointer takes its place on the next picture, where the range is the new one.
      requestAnimationFrame(() => requestAnimationFrame(() => {
        chart.setCrosshairPosition(candles[place].close, times[place], series);
        tell(place);
      }));
    },
  };
};
