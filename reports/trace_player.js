"use strict";
/* The trace player. The trace is a list of steps, each with what it changed about one node; the state at a
   step is that of the last keyframe with the changes since. Positions of messages are functions of time. */
(() => {
  const trace = JSON.parse(document.getElementById("data").textContent);
  const { nodes, steps, flights } = trace;
  const ROLES = ["follower", "pre-candidate", "candidate", "leader"];
  const SEATS = ["voter", "learner", "outside"];
  const KEYFRAME = 200;
  const SVG = "http://www.w3.org/2000/svg";
  const $ = (id) => document.getElementById(id);
  const times = steps.map((step) => step.time_ns);
  const origin = times.length ? times[0] : 0;

  // -- the state at a step ----------------------------------------------------------------------

  const blank = () => nodes.map(() => ({ up: false, born: false, role: 0, term: 0, vote: -1, leader: -1, commit: 0, applied: 0, base: 0, seat: 0, joint: 0, clock: [0, 0], log: [] }));
  const copy = (state) => state.map((node) => ({ ...node, log: node.log.slice() }));

  function change(state, step) {
    for (const place of step.downs || []) state[place].up = false;
    if (step.node === undefined || step.node < 0 || !step.change) return;
    const node = state[step.node];
    const { cut, add, ...facts } = step.change;
    if (facts.base !== undefined && cut === undefined) node.log.splice(0, facts.base - node.base);
    Object.assign(node, facts);
    node.born ||= node.up;
    if (cut !== undefined) node.log.length = Math.max(0, Math.min(cut - node.base, node.log.length));
    if (add) for (const entry of add) node.log.push(entry);
  }

  const keyframes = [];
  function stateAt(index) {
    const wanted = Math.floor(index / KEYFRAME);
    while (keyframes.length <= wanted) {
      const place = keyframes.length;
      const state = place ? copy(keyframes[place - 1]) : blank();
      const from = place ? (place - 1) * KEYFRAME + 1 : 0;
      for (let at = from; at <= place * KEYFRAME && at < steps.length; at++) change(state, steps[at]);
      keyframes.push(state);
    }
    const state = copy(keyframes[wanted]);
    for (let at = wanted * KEYFRAME + 1; at <= index; at++) change(state, steps[at]);
    return state;
  }

  // -- helpers ----------------------------------------------------------------------------------

  function element(parent, tag, attributes = {}, text) {
    const made = parent instanceof SVGElement ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    parent.appendChild(made);
    return made;
  }
  function clock(ns) {
    const ms = (ns - origin) / 1e6;
    return ms < 10000 ? `${ms.toFixed(ms < 100 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(2)} s`;
  }
  const nameOf = (place) => (place >= 0 ? nodes[place][0] : "nobody");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const HUES = [212, 28, 145, 282, 350, 182, 58, 320];
  function termColours(term) {
    const hue = HUES[(term + HUES.length - 1) % HUES.length];
    const dark = document.documentElement.dataset.theme === "dark";
    return dark ? [`hsl(${hue} 70% 70%)`, `hsl(${hue} 38% 25%)`] : [`hsl(${hue} 60% 38%)`, `hsl(${hue} 72% 91%)`];
  }

  // -- the ring ---------------------------------------------------------------------------------

  const RADIUS = 50;
  const places = nodes.map(() => [0, 0]);
  const shapes = {
    circle: `M${RADIUS} 0A${RADIUS} ${RADIUS} 0 1 1 ${-RADIUS} 0A${RADIUS} ${RADIUS} 0 1 1 ${RADIUS} 0Z`,
    diamond: polygon(4, 62, 0),
    hexagon: polygon(6, 57, Math.PI / 6),
  };
  function polygon(corners, radius, turn) {
    const points = [];
    for (let corner = 0; corner < corners; corner++) {
      const angle = turn + (2 * Math.PI * corner) / corners;
      points.push(`${(radius * Math.cos(angle)).toFixed(1)} ${(radius * Math.sin(angle)).toFixed(1)}`);
    }
    return `M${points.join("L")}Z`;
  }
  const shapeOf = (node) => (!node.up ? shapes.circle : [shapes.circle, shapes.diamond, shapes.diamond, shapes.hexagon][node.role]);

  const ring = $("ring");
  const links = element(ring, "g");
  const pairs = [];
  for (let one = 0; one < nodes.length; one++)
    for (let two = one + 1; two < nodes.length; two++) pairs.push([one, two, element(links, "line", { class: "link" })]);
  const under = element(ring, "g");
  const drawn = nodes.map((node) => {
    const group = element(ring, "g", { class: "node", "data-node": node[0] });
    element(group, "circle", { class: "halo", r: 76 });
    element(group, "circle", { class: "clock-back", r: 67 });
    const arc = element(group, "circle", { class: "clock", r: 67, transform: "rotate(-90)", "stroke-dasharray": "0 1000" });
    const shape = element(group, "path", { class: "shape" });
    element(group, "text", { class: "name", y: 3 }, node[0]);
    const term = element(group, "text", { class: "term", y: 23 });
    const role = element(group, "text", { class: "role" });
    const more = element(group, "text", { class: "more" });
    const badge = element(group, "g", { class: "badge" });
    element(badge, "rect", {});
    element(badge, "text", {});
    element(group, "title", {}, `member ${node[1]}`);
    return { group, arc, shape, term, role, more, badge, at: [0, 0] };
  });
  /* An ellipse as wide as the stage allows; labels stand outside of it, where no message passes: above and
     below for up to three members, else beside, since more of them leave less room for each. */
  function layout() {
    const stage = $("stage"), count = nodes.length, height = count > 3 ? 500 : 560;
    ring.setAttribute("class", count > 3 ? "many" : "");
    stage.className = count > 3 ? "many" : "";
    const width = Math.max(760, Math.min(1700, (height * stage.clientWidth) / Math.max(1, stage.clientHeight)));
    ring.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const [wide, high] = [Math.min(width / 2 - (count > 3 ? 300 : 150), 520), height / 2 - (count > 3 ? 84 : 132)];
    const lowest = count % 2 ? Math.cos(Math.PI / count) : 1; // an odd ring is not as deep as it is high
    drawn.forEach((parts, index) => {
      const angle = -Math.PI / 2 + (2 * Math.PI * index) / count;
      const [across, down] = count === 1 ? [0, 0] : [Math.cos(angle), Math.sin(angle)];
      const stretch = count === 3 ? 1.17 : 2 / (1 + lowest), lift = count === 1 ? 0 : (high * (1 - lowest)) / (count === 3 ? 2 : 1 + lowest);
      places[index] = [width / 2 + wide * across, height / 2 + lift + high * down * stretch];
      parts.group.setAttribute("transform", `translate(${places[index].join(" ")})`);
      const side = count > 3, right = across > -0.01, above = down < -0.5;
      [[parts.role, above ? -103 : 99, -4], [parts.more, above ? -84 : 118, 20]].forEach(([text, y, beside]) => {
        text.setAttribute("x", side ? (right ? 86 : -86) : 0);
        text.setAttribute("y", side ? beside - (above ? 34 : 0) : y); // above the messages that come from the side
        parts.at = side ? (above ? [-1, -26] : [right ? 1 : -1, -46]) : [0, above ? -128 : 138];
        text.style.textAnchor = side ? (right ? "start" : "end") : "middle";
      });
    });
    for (const [one, two, line] of pairs) {
      const [[x1, y1], [x2, y2]] = [places[one], places[two]];
      Object.entries({ x1, y1, x2, y2 }).forEach(([name, value]) => line.setAttribute(name, value));
    }
  }
  const over = element(ring, "g");

  function drawNodes(state, current) {
    state.forEach((node, index) => {
      const parts = drawn[index];
      const active = current.node === index;
      parts.group.setAttribute("class", `node ${node.up ? `role-${node.role} seat-${node.seat}` : "down"}${active ? " active" : ""}`);
      Object.assign(parts.group.dataset, { role: node.up ? ROLES[node.role] : "down", term: node.term, commit: node.commit, last: node.base + node.log.length, seat: SEATS[node.seat], joint: node.joint });
      parts.shape.setAttribute("d", shapeOf(node));
      parts.term.textContent = `term ${node.term}`;
      parts.role.textContent = node.up ? (node.role === 3 ? "♛ leader" : ROLES[node.role]) : node.born ? "✕ down" : "not started";
      parts.more.textContent = node.born ? `${node.vote >= 0 ? `voted ${nameOf(node.vote)}` : "no vote"} · commit ${node.commit}` : "";
      drawBadge(parts, node);
      const around = 2 * Math.PI * 67;
      const [elapsed, timeout] = node.clock;
      parts.arc.setAttribute("stroke-dasharray", `${timeout ? Math.min(1, elapsed / timeout) * around : 0} ${around}`);
    });
  }

  /* What the configuration makes of a member, where it is more than a plain voter. */
  function drawBadge({ badge, at }, node) {
    const word = !node.up ? "" : [node.joint ? "joint" : "", node.joint ? "learner, joint" : "learner", "no member"][node.seat];
    const [rect, text] = badge.children;
    badge.style.display = word ? "" : "none";
    badge.setAttribute("class", `badge ${node.joint ? "joint" : SEATS[node.seat]}`);
    text.textContent = word;
    const size = nodes.length > 3 ? 18 : 14, wide = 1.4 * size + 0.6 * size * word.length;
    const [side, y] = at, x = side ? (side > 0 ? 84 : -84 - wide) : -wide / 2;
    Object.entries({ x, y: y - size, width: wide, height: 1.5 * size, rx: 0.75 * size }).forEach(([name, value]) => rect.setAttribute(name, value));
    Object.entries({ x: x + wide / 2, y: y + size * 0.1, "font-size": size }).forEach(([name, value]) => text.setAttribute(name, value));
  }

  // -- messages under way -----------------------------------------------------------------------

  const crossing = flights.filter((flight) => flight.arrived >= 0).map((flight) => times[flight.arrived] - times[flight.left]).sort((a, b) => a - b);
  const usual = crossing.length ? Math.max(1, crossing[Math.floor(crossing.length / 2)]) : 1e6;

  function underWay(index, moment, resting) {
    let low = 0, high = flights.length;
    while (low < high) { const middle = (low + high) >> 1; if (flights[middle].left <= index) low = middle + 1; else high = middle; }
    const found = [];
    for (let at = low - 1; at >= 0 && found.length < 60 && low - at < 600; at--) {
      const flight = flights[at];
      const start = times[flight.left];
      if (flight.arrived >= 0) {
        if (flight.arrived < index || (flight.arrived === index && !resting)) continue;
        const whole = times[flight.arrived] - start;
        const part = flight.arrived === index ? 1 : whole ? Math.min(1, (moment - start) / whole) : 0;
        found.push([flight, part, false]);
      } else {
        const part = (moment - start) / usual;
        if (part < 2.5) found.push([flight, Math.min(part, 0.5), part >= 0.5]);
      }
    }
    return found.reverse();
  }

  const SHORT = { vote: "vote?", "vote+": "vote", append: "append", "append+": "ack", beat: "♥", "beat+": "♥", propose: "propose", snapshot: "snapshot", transfer: "lead!", read: "read?", "read+": "read" };
  function shortText(flight) {
    const text = flight.text;
    if (flight.kind === "vote") return text.startsWith("would") ? "pre-vote?" : "vote?";
    if (flight.kind === "vote+") return text.endsWith("granted") ? (text.startsWith("pre") ? "pre-yes" : "yes") : "no";
    if (flight.kind === "append") { const found = /(?:entry|entries) (\S+)/.exec(text); return found ? `append ${found[1]}` : "probe"; }
    if (flight.kind === "append+") { const found = /up to (\d+)/.exec(text); return found ? `ok ${found[1]}` : "no"; }
    return SHORT[flight.kind] || flight.kind;
  }

  function drawFlights(index, moment, resting) {
    under.replaceChildren();
    over.replaceChildren();
    const active = underWay(index, moment, resting), seen = {};
    for (const [flight] of active) seen[[flight.sender, flight.to]] = (seen[[flight.sender, flight.to]] || 0) + 1;
    const number = {};
    for (const [flight, part, lost] of active) {
      const link = [flight.sender, flight.to], crowd = seen[link];
      number[link] = (number[link] || 0) + 1;
      const labelled = crowd <= 3 || number[link] === 1 || number[link] === crowd;
      const [x1, y1] = places[flight.sender], [x2, y2] = places[flight.to];
      const length = Math.hypot(x2 - x1, y2 - y1) || 1;
      const [nx, ny] = [-(y2 - y1) / length, (x2 - x1) / length];
      const bend = 44;
      const [cx, cy] = [(x1 + x2) / 2 + nx * bend, (y1 + y2) / 2 + ny * bend];
      const near = 72 / length, at = near + (1 - 2 * near) * Math.max(0.1, Math.min(0.97, part));
      const point = (t) => [(1 - t) ** 2 * x1 + 2 * t * (1 - t) * cx + t * t * x2, (1 - t) ** 2 * y1 + 2 * t * (1 - t) * cy + t * t * y2];
      const from = Math.max(near, at - 0.3);
      const points = [];
      for (let step = 0; step <= 8; step++) points.push(point(from + ((at - from) * step) / 8).map((v) => v.toFixed(1)).join(" "));
      const reply = flight.kind.endsWith("+");
      const kind = `flight ${flight.kind.replace("+", "")}${reply ? " reply" : ""}${lost ? " lost" : ""}`;
      element(element(under, "g", { class: kind }), "path", { class: "path", d: `M${points.join("L")}` });
      const group = element(over, "g", { class: kind });
      const [x, y] = point(at), [px, py] = point(at - 0.02);
      const turn = (Math.atan2(y - py, x - px) * 180) / Math.PI;
      if (lost) element(group, "path", { class: "path", "stroke-dasharray": "none", d: `M${x - 7} ${y - 7}L${x + 7} ${y + 7}M${x - 7} ${y + 7}L${x + 7} ${y - 7}`, style: "stroke-dasharray:none" });
      else element(group, "path", { class: "head", transform: `translate(${x} ${y}) rotate(${turn})`, d: "M10 0L-8 -8L-4 0L-8 8Z" });
      const [tx, ty] = flight.arrived === index ? point(at - 0.17) : [x, y]; // keeps clear of its answer
      if (labelled) element(group, "text", { x: tx + nx * 20, y: ty + ny * 20 + 5 }, lost ? `${shortText(flight)} lost` : shortText(flight));
      element(group, "title", {}, `${nameOf(flight.sender)} to ${nameOf(flight.to)}: ${flight.text}`);
    }
  }

  // -- the logs ---------------------------------------------------------------------------------

  const changes = steps.some((step) => step.change && ("seat" in step.change || "joint" in step.change) && step.kind !== "start");
  function drawLogs(state, current) {
    const box = $("logs");
    box.replaceChildren();
    box.className = nodes.length > 3 ? "many" : "";
    const room = Math.max(3, Math.floor((box.clientWidth - 258) / 90));
    const lastOf = (node) => node.base + node.log.length;
    const first = Math.max(0, Math.max(0, ...state.map(lastOf)) - room);
    state.forEach((node, index) => {
      const last = lastOf(node);
      const row = element(box, "div", { class: `log${current.node === index ? " current" : ""}` });
      const who = element(row, "div", { class: "who" });
      element(who, "b", {}, nodes[index][0]);
      element(who, "span", {}, last ? `${last} long, commit ${node.commit}` : "empty log");
      const hidden = Math.min(first, last);
      if (first > 0) element(row, "span", { class: "rest" }, node.base > first ? "" : hidden > 1 ? `1 … ${hidden}` : hidden ? "1" : "");
      if (node.base > first) {
        const cells = node.base - first;
        element(row, "div", { class: "cell snapshot", style: `width:${cells * 90 - 4}px`, title: `a snapshot stands for the entries up to ${node.base}` }, cells > 1 ? `snapshot up to ${node.base}` : `… ${node.base}`);
      }
      const added = current.node === index && current.change && current.change.add ? current.change.cut : Infinity;
      for (let at = Math.max(first, node.base); at < last; at++) {
        const [term, label] = node.log[at - node.base];
        const [line, fill] = termColours(term);
        const committed = at < node.commit;
        const cell = element(row, "div", {
          class: `cell${committed ? " committed" : ""}${at >= added ? " new" : ""}`,
          style: `--t-line:${line};--t-fill:${fill}`,
          title: `entry ${at + 1} of term ${term}: ${label}${committed ? ", committed" : ", not known to be committed"}${at < node.applied ? ", applied" : ""}`,
        });
        element(cell, "span", { class: "at" }, at + 1);
        element(cell, "span", { class: "of" }, `t${term}`);
        element(cell, "span", { class: "what" }, label);
        if (at < node.applied) element(cell, "span", { class: "mark" }, "✓");
      }
    });
    element(box, "p", { class: "hint" }, `colour: term · filled: known to be committed · dashed: not yet · ✓ applied${changes ? " · + voter ~ learner − removed" : ""}`);
  }

  // -- words ------------------------------------------------------------------------------------

  function drawNow(index, current) {
    const box = $("now");
    box.replaceChildren();
    const who = current.node >= 0 && current.node !== undefined ? nameOf(current.node) : "";
    element(box, "div", { class: "when" }, `${clock(current.time_ns)} · step ${index + 1} of ${steps.length}`);
    element(box, "div", { class: "what" }, who ? `${who}: ${current.title}` : current.title);
    if (current.details) {
      const list = element(box, "ul");
      for (const line of current.details) element(list, "li", {}, line);
    }
    for (const [why, source] of current.refused || []) {
      const callout = element(box, "p", { class: "why" }, why);
      if (source) element(callout, "cite", {}, source);
    }
    if (current.mismatch) element(box, "div", { class: "mismatch" }, `The shipped core does not repeat this step: ${current.mismatch}`);
  }

  function drawEvents() {
    const box = $("events");
    box.replaceChildren();
    const from = Math.max(0, cursor - 60), to = Math.min(visible.length, cursor + 120);
    for (let at = from; at < to; at++) {
      const step = steps[visible[at]];
      const item = element(box, "li", { class: `${step.kind}${at === cursor ? " current" : ""}${step.mismatch ? " mismatch" : ""}` });
      item.addEventListener("click", () => { pause(); go(at); });
      element(item, "span", { class: "t" }, clock(step.time_ns));
      element(item, "span", { class: "n" }, step.node >= 0 ? nameOf(step.node) : "");
      const text = element(item, "span", { class: "e" }, step.title);
      if (step.details) element(text, "small", {}, step.details.join(" · "));
      for (const [why, source] of step.refused || []) element(text, "small", { class: "why" }, source ? `${why} [${source}]` : why);
      if (at === cursor) requestAnimationFrame(() => { box.scrollTop = item.offsetTop - box.offsetTop - box.clientHeight / 3; });
    }
  }

  // -- the overview -----------------------------------------------------------------------------

  const LANE = 20;
  let lanes = null;
  function prepareLanes() {
    const state = blank();
    let at = 0;
    lanes = visible.map((index) => {
      for (; at <= index; at++) change(state, steps[at]);
      return state.map((node) => [node.up ? node.role : 4, node.born ? node.term : -1]);
    });
  }
  function drawOverview() {
    const canvas = $("overview"), ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth || 800, height = LANE * nodes.length + 2;
    canvas.style.height = `${height}px`;
    canvas.width = width * ratio; canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const lines = ["--follower", "--pre", "--candidate", "--leader", "--down"].map(css);
    const fills = ["--follower-fill", "--pre-fill", "--candidate-fill", "--leader-fill", "--down-fill"].map(css);
    const column = width / Math.max(1, visible.length);
    nodes.forEach((_, node) => {
      for (let start = 0; start < lanes.length; ) {
        let end = start;
        const [role, term] = lanes[start][node];
        while (end < lanes.length && lanes[end][node][0] === role && lanes[end][node][1] === term) end++;
        const x = start * column, y = node * LANE + 1, wide = (end - start) * column;
        pen.fillStyle = fills[role]; pen.fillRect(x, y, wide, LANE - 3);
        pen.fillStyle = lines[role]; pen.fillRect(x, y + LANE - 6, wide, 3);
        if (role === 3) pen.fillRect(x, y, wide, 3);
        pen.font = "600 11px sans-serif";
        const label = term < 0 ? "" : role === 4 ? "down" : `${role === 3 ? "♛ " : ""}term ${term}`;
        if (wide > pen.measureText(label).width + 8) pen.fillText(label, x + 4, y + 12);
        start = end;
      }
    });
    const marks = { fault: css("--bad"), crash: css("--bad"), heal: css("--good"), client: css("--propose") };
    visible.forEach((index, at) => {
      const colour = marks[steps[index].kind];
      if (!colour) return;
      pen.fillStyle = colour;
      if (steps[index].kind === "client") pen.fillRect(at * column, 0, 1.5, 4);
      else pen.fillRect(at * column - 0.5, 0, 2, height);
    });
    pen.strokeStyle = css("--focus"); pen.lineWidth = 2;
    pen.strokeRect(cursor * column - 1, 1, Math.max(4, column + 1), height - 2);
  }

  // -- moving -----------------------------------------------------------------------------------

  let visible = [], cursor = 0, playing = false, frame = 0;

  function filter(weight, keep) {
    visible = [];
    steps.forEach((step, index) => { if ((step.weight || 0) >= weight || step.mismatch) visible.push(index); });
    if (!visible.length) visible = steps.map((_, index) => index);
    prepareLanes();
    let at = visible.findIndex((index) => index >= keep);
    if (at < 0) at = visible.length - 1;
    $("scrub").max = visible.length - 1;
    go(at);
  }

  function go(at) {
    cursor = Math.max(0, Math.min(visible.length - 1, at));
    const index = visible[cursor], current = steps[index], state = stateAt(index);
    drawNodes(state, current);
    drawFlights(index, times[index], true);
    drawLogs(state, current);
    drawNow(index, current);
    drawEvents();
    drawOverview();
    $("scrub").value = cursor;
    $("position").textContent = `${cursor + 1} / ${visible.length}`;
    document.body.dataset.step = index;
    history.replaceState(null, "", `#${index}`);
  }

  function pause() {
    playing = false;
    cancelAnimationFrame(frame);
    $("play").textContent = "▶ play";
  }
  function play() {
    if (cursor >= visible.length - 1) go(0);
    playing = true;
    $("play").textContent = "❚❚ pause";
    hop();
  }
  function hop() {
    if (!playing) return;
    if (cursor >= visible.length - 1) { pause(); return; }
    const index = visible[cursor], next = visible[cursor + 1];
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const length = (times[next] - times[index] > 0 ? 700 : 450) / Number($("speed").value);
    const began = performance.now();
    const move = (now) => {
      if (!playing) return;
      const part = Math.min(1, (now - began) / length);
      if (part >= 1) { go(cursor + 1); hop(); return; }
      if (!still) drawFlights(index, times[index] + (times[next] - times[index]) * part, false);
      frame = requestAnimationFrame(move);
    };
    frame = requestAnimationFrame(move);
  }

  // -- start ------------------------------------------------------------------------------------

  $("title").textContent = trace.title;
  for (const [name, value] of trace.facts) {
    const row = element($("facts"), "div", { class: name === "replay" ? (value.startsWith("differs") ? "bad" : "good") : "" });
    element(row, "dt", {}, name);
    element(row, "dd", {}, value);
  }
  const kinds = new Set(flights.map((flight) => flight.kind));
  for (const [name, colour, dashed] of [["vote", "--vote"], ["append", "--append"], ["heartbeat", "--beat"], ["snapshot", "--snapshot"], ["hand over", "--leader"], ["answer", "--soft", "dashed"], ["lost", "--bad", "dashed"]]) {
    if ((name === "snapshot" && !kinds.has("snapshot")) || (name === "hand over" && !kinds.has("transfer"))) continue;
    const item = element($("legend"), "li");
    element(item, "i", { class: dashed || "", style: `border-color:var(${colour})` });
    item.append(name);
  }
  nodes.forEach((node) => element($("names"), "div", {}, node[0]));
  const moved = (by) => () => { pause(); go(cursor + by); };
  $("back").onclick = moved(-1);
  $("forward").onclick = moved(1);
  $("first").onclick = moved(-Infinity);
  $("last").onclick = moved(Infinity);
  $("play").onclick = () => (playing ? pause() : play());
  $("scrub").oninput = (event) => { pause(); go(Number(event.target.value)); };
  $("filter").onchange = (event) => { pause(); filter(Number(event.target.value), visible[cursor]); };
  $("theme").onclick = () => {
    const root = document.documentElement;
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
    go(cursor);
  };
  let dragging = false;
  const seek = (event) => { const box = $("overview").getBoundingClientRect(); pause(); go(Math.floor(((event.clientX - box.left) / box.width) * visible.length)); };
  $("overview").onpointerdown = (event) => { dragging = true; $("overview").setPointerCapture(event.pointerId); seek(event); };
  $("overview").onpointermove = (event) => { if (dragging) seek(event); };
  $("overview").onpointerup = () => { dragging = false; };
  document.addEventListener("keydown", (event) => {
    if (event.target.tagName === "SELECT") return;
    const jump = event.shiftKey ? 10 : 1;
    const keys = { ArrowLeft: -jump, ArrowRight: jump, Home: -Infinity, End: Infinity, PageUp: -10, PageDown: 10 };
    if (event.key in keys) { event.preventDefault(); pause(); go(cursor + keys[event.key]); }
    else if (event.key === " " && event.target.tagName !== "BUTTON") { event.preventDefault(); playing ? pause() : play(); }
  });
  const fit = () => { layout(); go(cursor); };
  window.addEventListener("resize", fit);
  document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const wanted = Number.parseInt(location.hash.slice(1), 10);
  filter(2, Number.isNaN(wanted) ? 0 : wanted);
  fit();
})();
