"use strict";

// The curve's drawing area is `frames` units wide, so that frame t is the column [t, t + 1), and 100 high:
// the found window is marked in the top strip, the curve lies between TOP and BOTTOM.
const STRIP = 5, TOP = 12, BOTTOM = 96;

// 256 x RGBA for maps of which only positive evidence is shown, for signed ones, and for masks.
const palettes = JSON.parse(document.getElementById("palettes").textContent);

const TEXTS = {
  hide: { heat: "weak to strong evidence", curve: "evidence per frame S\u209c", what: "the evidence found by" },
  show: { heat: "evidence against (blue) and for (red)", curve: "evidence per frame S\u209c", what: "the evidence found by" },
  mask: { heat: "hidden to kept", curve: "share of the frame that is kept", what: "only what is kept by" },
};

function startPlayer(player) {
  const data = JSON.parse(player.querySelector("script").textContent);
  player.append(document.getElementById("player").content.cloneNode(true));
  const kind = data.seeThrough ? "mask" : data.signed ? "show" : "hide";
  const palette = palettes[kind], texts = TEXTS[kind];
  const find = (selector) => player.querySelector(selector);
  const clip = find(".clip"), evidence = find(".evidence"), curve = find(".curve"), play = find(".play");
  const state = { frame: 0, method: data.methods[0], playing: false };

  // ---- pictures ------------------------------------------------------------------------------------------
  const scale = Math.max(1, Math.ceil(480 / Math.max(data.width, data.height)));
  for (const canvas of [clip, evidence]) {
    canvas.width = data.width * scale;
    canvas.height = data.height * scale;
  }
  clip.setAttribute("aria-label", `Clip: ${player.dataset.title}`);

  // A map is stored as grey levels, far smaller than colours, and painted here as the library's overlay is.
  const layer = new OffscreenCanvas(data.width, data.height);
  layer.getContext("2d", { willReadFrequently: true });

  function drawTile(canvas, sheet) {
    if (!sheet.image) return loadSheet(sheet).then(draw);
    const x = (state.frame % sheet.columns) * sheet.tileWidth;
    const y = Math.floor(state.frame / sheet.columns) * sheet.tileHeight;
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(sheet.image, x, y, data.width, data.height, 0, 0, canvas.width, canvas.height);
  }

  function drawOverlay(canvas, sheet, opacity) {
    drawTile(layer, sheet);
    if (!sheet.image) return;
    const pixels = layer.getContext("2d").getImageData(0, 0, data.width, data.height);
    for (let i = 0; i < pixels.data.length; i += 4) {
      const row = 4 * pixels.data[i];
      for (let channel = 0; channel < 4; channel++) pixels.data[i + channel] = palette[row + channel];
    }
    layer.getContext("2d").putImageData(pixels, 0, 0);
    const context = canvas.getContext("2d");
    context.globalAlpha = opacity;
    context.drawImage(layer, 0, 0, canvas.width, canvas.height);
    context.globalAlpha = 1;
  }

  function drawBoxes(canvas) {
    const context = canvas.getContext("2d");
    context.lineWidth = Math.max(2, canvas.width / 200);
    context.strokeStyle = "#00e5ff";
    for (const [x0, y0, x1, y1] of data.boxes[state.frame] ?? []) {
      context.strokeRect(x0 * canvas.width, y0 * canvas.height, (x1 - x0) * canvas.width, (y1 - y0) * canvas.height);
    }
  }

  // ---- curve ---------------------------------------------------------------------------------------------
  const svg = curve.querySelector("svg");
  svg.setAttribute("viewBox", `0 0 ${data.frames} 100`);
  let height = () => 0;  // of a score, in the drawing area; set for each method

  function drawCurve() {
    const { scores, window: found } = state.method;
    const low = Math.min(0, ...scores), high = Math.max(0, ...scores);
    height = (score) => BOTTOM - ((score - low) / (high - low || 1)) * (BOTTOM - TOP);
    const points = scores.map((score, t) => `${t + 0.5},${height(score)}`);
    svg.replaceChildren(
      ...data.spans.map(([start, end]) => shape("rect", "span", { x: start, y: 0, width: end - start, height: 100 })),
      shape("polygon", "area", { points: [`0.5,${height(0)}`, ...points, `${data.frames - 0.5},${height(0)}`].join(" ") }),
      vertical("zero", { x1: 0, x2: data.frames, y1: height(0), y2: height(0) }),
      ...(found ?? []).map((edge) => vertical("found-edge", { x1: edge, x2: edge })),
      ...(found ? [shape("rect", "found", { x: found[0], y: 0, width: found[1] - found[0], height: STRIP })] : []),
      vertical("playhead", {}),
      shape("polyline", "line", { points: points.join(" ") }),
    );
    const levels = [...new Set([low, 0, high])].filter((level) => level === 0 || Math.abs(height(level) - height(0)) > 14);
    find(".y-axis").replaceChildren(...levels.map((level) => tick(shortNumber(level), "top", height(level))));
    const marks = frameTicks(data.frames).map((t) => tick(String(t), "left", (100 * t) / data.frames));
    find(".x-axis").replaceChildren(...marks);
  }

  function drawLegend() {
    const found = state.method.window;
    find(".key-span").hidden = data.spans.length === 0;
    find(".key-span span").textContent = `true span: ${data.spans.map(interval).join(", ")}`;
    find(".key-window").hidden = !found;
    find(".key-window span").textContent = found ? `found by ${state.method.name}: ${interval(found)}` : "";
    find(".key-box").hidden = find(".boxes-toggle").hidden = data.boxes.length === 0;
    find(".key-curve span").textContent = texts.curve;
    find(".key-heat span").textContent = texts.heat;
    find(".key-heat i").style.backgroundImage = gradient(palette);
  }
  const interval = ([start, end]) => `frames ${start} to ${end - 1}`;

  // ---- what changes --------------------------------------------------------------------------------------
  function draw() {
    drawTile(clip, data.clip);
    drawTile(evidence, data.clip);
    drawOverlay(evidence, state.method.levels, find(".strength").value / 100);
    if (find(".boxes").checked) [clip, evidence].forEach(drawBoxes);
    const score = state.method.scores[state.frame];
    const x = state.frame + 0.5;
    for (const end of ["x1", "x2"]) svg.querySelector(".playhead").setAttribute(end, x);
    find(".dot").style.left = `${(100 * x) / data.frames}%`;
    find(".dot").style.top = `${height(score)}%`;
    const inside = data.spans.some(([start, end]) => start <= state.frame && state.frame < end);
    const measure = data.seeThrough ? `${shortNumber(100 * score)} % kept` : `S = ${shortNumber(score)}`;
    const facts = [`${(state.frame / data.fps).toFixed(2)} s`, measure];
    if (inside) facts.push("in the true span");
    const counter = document.createElement("b"), rest = document.createElement("span");
    counter.textContent = `Frame ${state.frame}`;
    rest.textContent = ` of 0 to ${data.frames - 1} · ${facts.join(" · ")}`;
    find(".readout").replaceChildren(counter, rest);
    curve.setAttribute("aria-valuemax", data.frames - 1);
    curve.setAttribute("aria-valuenow", state.frame);
    curve.setAttribute("aria-valuetext", `frame ${state.frame}, ${facts.join(", ")}`);
    player.dataset.frame = state.frame;
  }

  function seek(frame) {
    state.frame = Math.min(data.frames - 1, Math.max(0, frame));
    draw();
  }

  function choose(method) {
    state.method = method;
    [...find(".methods").children].forEach((button, i) => {
      button.setAttribute("aria-pressed", data.methods[i] === method);
    });
    find(".method-name").textContent = method.name;
    evidence.setAttribute("aria-label", `Clip with ${texts.what} ${method.name}`);
    drawCurve();
    drawLegend();
    draw();
  }

  function setPlaying(playing) {
    state.playing = playing;
    player.classList.toggle("playing", playing);
    play.setAttribute("aria-label", playing ? "Pause" : "Play");
    if (!playing) return;
    let shown = performance.now();
    requestAnimationFrame(function step(now) {
      if (!state.playing || !player.isConnected) return;
      const due = 1000 / (data.fps * find(".speed").value);
      const passed = Math.floor((now - shown) / due);
      if (passed > 0) {
        shown += passed * due;
        seek((state.frame + passed) % data.frames);
      }
      requestAnimationFrame(step);
    });
  }

  // ---- input ---------------------------------------------------------------------------------------------
  function seekToPointer(event) {
    const area = curve.getBoundingClientRect();
    setPlaying(false);
    seek(Math.floor(((event.clientX - area.left) / area.width) * data.frames));
  }
  curve.addEventListener("pointermove", seekToPointer);
  curve.addEventListener("pointerdown", (event) => {
    curve.setPointerCapture(event.pointerId);
    seekToPointer(event);
  });
  play.addEventListener("click", () => setPlaying(!state.playing));
  find(".strength").addEventListener("input", draw);
  find(".boxes").addEventListener("change", draw);
  player.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select") || event.altKey || event.ctrlKey || event.metaKey) return;
    const onCurve = event.target === curve;  // elsewhere these keys scroll the page or press the button
    if (event.key === "ArrowLeft") seek(state.frame - 1);
    else if (event.key === "ArrowRight") seek(state.frame + 1);
    else if (onCurve && event.key === "Home") seek(0);
    else if (onCurve && event.key === "End") seek(data.frames - 1);
    else if (onCurve && event.key === " ") return event.preventDefault(), setPlaying(!state.playing);
    else return;
    setPlaying(false);
    event.preventDefault();
  });

  for (const method of data.methods) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = method.name;
    button.addEventListener("click", () => choose(method));
    find(".methods").append(button);
  }
  // The frame with the most evidence says more than the first one.
  state.frame = state.method.scores.indexOf(Math.max(...state.method.scores));
  choose(state.method);
}

function loadSheet(sheet) {
  sheet.loading ??= new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve((sheet.image = image));
    image.onerror = () => reject(new Error("a picture of this report cannot be decoded"));
    image.src = sheet.src;
  });
  return sheet.loading;
}

function gradient(palette) {
  const stop = (row) => {
    const [red, green, blue, alpha] = palette.slice(4 * row, 4 * row + 4);
    return `rgb(${red} ${green} ${blue} / ${alpha / 255})`;
  };
  return `linear-gradient(to right, ${Array.from({ length: 16 }, (_, i) => stop(17 * i)).join(", ")})`;
}

function shape(name, kind, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  element.setAttribute("class", kind);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function vertical(kind, attributes) {
  return shape("line", kind, { x1: 0, x2: 0, y1: 0, y2: 100, ...attributes });
}

function tick(text, side, percent) {
  const label = document.createElement("span");
  label.textContent = text;
  label.style[side] = `${percent}%`;
  return label;
}

function frameTicks(frames) {
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((size) => frames / size <= 8) ?? 5000;
  return Array.from({ length: Math.floor(frames / step) + 1 }, (_, i) => i * step);
}

function shortNumber(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e5 || size < 1e-3)) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

// A page of many clips starts each one when it comes near the screen.
const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    startPlayer(target);
  }
}, { rootMargin: "400px" });
document.querySelectorAll(".player").forEach((player) => near.observe(player));
