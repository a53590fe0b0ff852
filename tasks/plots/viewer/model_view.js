// The model in its map: the 3D view, the plots of its residues and the list of regions follow one another.
// All that is shown is in the page (#model-data); nothing is fetched.
"use strict";

(() => {
  const ELEMENT_COLOURS = {N: "#2450c8", O: "#d02020", S: "#b8960b", P: "#c96a00"};
  const CHAIN_COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8960b", "#56b4e9", "#7a3e9d", "#5b6673"];
  const UNKNOWN = "#b9b3a8", MAP_COLOUR = "#5b6f86";
  const NEAR_ANGSTROM = 3, NEIGHBOURS_ANGSTROM = 4;  // of the map that is shown, of side chains about what was chosen
  const AROUND = 3;  // residues on either side that are looked at, too
  const NEAR_DEPTH = 10, WHOLE_DEPTH = 5000;  // Å in front of the middle of a view and behind
  const $ = (id) => document.getElementById(id);
  const view = $("model-view"), stage = $("model-stage"), data = JSON.parse($("model-data").textContent);
  const {residues, colours, map} = data;
  const n = residues.number.length;
  const indexOf = new Map();
  for (let i = 0; i < n; i++) indexOf.set(key(residues.chain[i], residues.number[i], residues.code[i]), i);
  const chains = [...new Set(residues.chain)];
  const control = (name) => view.querySelector(`[name=${name}]`);
  let viewer, density, near, surface, selected = null;

  function key(chain, number, code) { return `${chain}|${number}|${(code || "").trim()}`; }
  const residueOf = (atom) => indexOf.get(key(atom.chain, atom.resi, atom.icode));

  async function unpacked(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // ---- colours

  function onScale(share) {
    const last = data.scale.length - 1, at = Math.min(Math.max(share, 0), 1) * last;
    const low = Math.min(Math.floor(at), last - 1);
    const part = (hex, k) => parseInt(hex.slice(1 + 2 * k, 3 + 2 * k), 16);
    const mixed = [0, 1, 2].map((k) => {
      const a = part(data.scale[low], k), b = part(data.scale[low + 1], k);
      return Math.round(a + (at - low) * (b - a)).toString(16).padStart(2, "0");
    });
    return "#" + mixed.join("");
  }

  function colourOf(i) {
    if (i === undefined) return UNKNOWN;
    const column = colours.find((c) => c.id === control("colour").value);
    if (!column) return CHAIN_COLOURS[chains.indexOf(residues.chain[i]) % CHAIN_COLOURS.length];
    const value = column.values[i];
    if (value === null) return UNKNOWN;
    if (column.classes) return column.classes[value].colour;
    return onScale((value - column.worst) / (column.best - column.worst));
  }

  function showLegend() {
    const legend = $("model-legend"), column = colours.find((c) => c.id === control("colour").value);
    const swatch = (colour, words) => {
      const entry = document.createElement("span"), box = document.createElement("i");
      box.style.background = colour;
      entry.append(box, words);
      return entry;
    };
    legend.replaceChildren();
    if (!column) {
      const shown = chains.slice(0, 24).map((c, k) => swatch(CHAIN_COLOURS[k % CHAIN_COLOURS.length], "chain " + c));
      legend.append(...shown, chains.length > 24 ? `and ${chains.length - 24} more` : "");
    } else if (column.classes) {
      legend.append(...column.classes.map((c) => swatch(c.colour, c.label)));
    } else {
      const bar = document.createElement("b");
      bar.style.background = `linear-gradient(to right, ${data.scale.join(",")})`;
      legend.append(`${column.label}: ${words(column, column.worst)} `, bar, ` ${words(column, column.best)}`);
    }
    if (column && column.values.includes(null)) legend.append(swatch(UNKNOWN, "not known"));
  }

  const words = (column, value) => `${Number(value.toFixed(column.digits))}${column.unit ? " " + column.unit : ""}`;

  // ---- the model

  function showModel() {
    const style = control("style").value, byResidue = (atom) => colourOf(residueOf(atom));
    const byElement = (atom) => ELEMENT_COLOURS[atom.elem] || byResidue(atom);
    const sticks = {stick: {radius: 0.14, colorfunc: byElement}};
    const shown = {
      cartoon: {cartoon: {colorfunc: byResidue, arrows: true}},
      trace: {cartoon: {style: "trace", thickness: selected ? 0.25 : 0.5, colorfunc: byResidue}},
      sticks,
    };
    // a ribbon hides the density that a close look is for; a transparent one is lost behind a transparent map
    viewer.setStyle({}, shown[selected && style === "cartoon" ? "trace" : style]);
    viewer.setStyle({hetflag: true}, {...sticks, sphere: {scale: 0.2, colorfunc: byElement}});
    if (selected) {
      viewer.addStyle({within: {distance: NEIGHBOURS_ANGSTROM, sel: aroundSelected(AROUND)}, byres: true}, sticks);
      viewer.addStyle(aroundSelected(0), {stick: {radius: 0.26, colorfunc: byElement}});
    }
    viewer.render();
  }

  function aroundSelected(more) {
    const {first, last} = selected, chain = residues.chain[first], numbers = [];
    for (let i = Math.max(0, first - more); i <= Math.min(n - 1, last + more); i++)
      if (residues.chain[i] === chain) numbers.push(residues.number[i]);
    return {chain, resi: numbers};
  }

  function radiusOf(selection) {
    const atoms = viewer.selectedAtoms(selection);
    const mean = (axis) => atoms.reduce((sum, a) => sum + a[axis], 0) / atoms.length;
    const [x, y, z] = ["x", "y", "z"].map(mean);
    return Math.max(...atoms.map((a) => Math.hypot(a.x - x, a.y - y, a.z - z)));
  }

  // ---- the map

  function contourWords(level) {
    return `${level.toPrecision(3)} (${(level / map.sigma).toFixed(1)} σ)`;
  }

  function showMap() {
    if (surface) viewer.removeShape(surface);
    surface = null;
    const style = map ? control("map").value : "none";
    if (style !== "none") {
      const level = Number(control("level").value), scale = 255 / (map.high - map.low);
      control("level").nextElementSibling.textContent = contourWords(level);
      const mesh = isosurface(density, map.size, (level - map.low) * scale, control("near").checked ? near : null);
      view.dataset.triangles = mesh.faces.length / 3;
      const [oz, oy, ox] = map.origin, s = map.voxel;
      for (const p of mesh.vertices) { p.x = ox + s * p.x; p.y = oy + s * p.y; p.z = oz + s * p.z; }
      if (mesh.faces.length) surface = viewer.addCustom({
        vertexArr: mesh.vertices, normalArr: mesh.normals, faceArr: mesh.faces, color: MAP_COLOUR,
        wireframe: style === "mesh", opacity: style === "mesh" ? 0.8 : style === "solid" ? 1 : 0.5,
      });
    }
    viewer.render();
  }

  function places() {
    const [oz, oy, ox] = map.origin;
    return viewer.selectedAtoms({}).map((a) => ({
      x: (a.x - ox) / map.voxel, y: (a.y - oy) / map.voxel, z: (a.z - oz) / map.voxel,
    }));
  }

  // ---- residues

  function describe(i) {
    const name = `${residues.chain[i]}/${residues.name[i]} ${residues.number[i]}${residues.code[i]}`;
    const told = colours.filter((c) => c.values[i] !== null).map(
      (c) => c.classes ? c.classes[c.values[i]].label : `${c.label} ${words(c, c.values[i])}`);
    return [name, ...told].join(" · ");
  }

  function select(first, last = first, moves = true) {
    selected = {first, last};
    view.dataset.residue = key(residues.chain[first], residues.number[first], residues.code[first]);
    $("model-status").textContent = first === last ? describe(first) : `${describe(first)} … ${residues.number[last]}`;
    for (const plot of document.querySelectorAll("svg.profile")) {
      const cursor = plot.querySelector(".cursor"), {first: start, count, left, step} = numbersOf(plot);
      const from = Math.max(first, start), to = Math.min(last, start + count - 1);
      cursor.setAttribute("visibility", from <= to ? "visible" : "hidden");
      cursor.setAttribute("x", left + step * (from - start));
      cursor.setAttribute("width", Math.max(step * (to - from + 1), 0));
    }
    if (!viewer) return;
    showModel();
    if (moves) lookAt(aroundSelected(AROUND), Math.max(NEAR_DEPTH, radiusOf(aroundSelected(0))), 300);
  }

  function numbersOf(plot) {
    return Object.fromEntries(["first", "count", "left", "step"].map((name) => [name, Number(plot.dataset[name])]));
  }

  function residueAt(plot, event) {
    const box = plot.getBoundingClientRect(), {first, count, left, step} = numbersOf(plot);
    const x = (event.clientX - box.left) * plot.viewBox.baseVal.width / box.width;
    const i = Math.floor((x - left) / step);
    return i >= 0 && i < count ? first + i : null;
  }

  function followPlots() {
    for (const plot of document.querySelectorAll("svg.profile")) {
      plot.addEventListener("click", (event) => {
        const i = residueAt(plot, event);
        if (i !== null) select(i);
      });
      plot.addEventListener("pointermove", (event) => {
        const i = residueAt(plot, event);
        if (i !== null) $("model-status").textContent = describe(i);
      });
      plot.addEventListener("pointerleave", () => {
        if (selected) $("model-status").textContent = describe(selected.first);
      });
      plot.addEventListener("keydown", (event) => {
        const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
        if (!step) return;
        event.preventDefault();
        select(Math.min(n - 1, Math.max(0, (selected ? selected.first : numbersOf(plot).first - step) + step)));
      });
    }
    for (const link of document.querySelectorAll("a[data-first]")) link.addEventListener("click", (event) => {
      if (viewer) event.preventDefault();  // else it leads to the section
      select(Number(link.dataset.first), Number(link.dataset.last));
      view.scrollIntoView({block: "nearest"});
    });
  }

  // the view of a selection, cut off this far in front of its middle and behind; all but nothing for the whole model
  function lookAt(selection, depth, milliseconds) {
    viewer.zoomTo(selection, milliseconds);
    viewer.setSlab(-depth, depth);
    viewer.render();
  }

  // an empty selection would take the map in, whose bounding sphere is too large
  const showAll = (milliseconds) => lookAt({predicate: () => true}, WHOLE_DEPTH, milliseconds);

  // ---- start

  function followControls() {
    control("colour").addEventListener("change", () => { showLegend(); showModel(); });
    control("style").addEventListener("change", showModel);
    for (const name of ["map", "near"]) if (control(name)) control(name).addEventListener("change", showMap);
    if (map) {
      let waits = false;
      control("level").addEventListener("input", () => {
        if (waits) return;
        waits = true;
        requestAnimationFrame(() => { waits = false; showMap(); });
      });
    }
    control("whole").addEventListener("click", () => {
      selected = null;
      delete view.dataset.residue;
      for (const cursor of document.querySelectorAll("svg.profile .cursor")) cursor.setAttribute("visibility", "hidden");
      $("model-status").textContent = "";
      showModel();
      showAll(300);
    });
    control("full").addEventListener("click", () => view.requestFullscreen());
    document.addEventListener("fullscreenchange", () => viewer.resize());
    // the wheel scrolls the page until the view was clicked into
    document.addEventListener("pointerdown", (event) => {
      stage.dataset.active = stage.contains(event.target) ? "1" : "";
    });
    stage.addEventListener("wheel", (event) => { if (!stage.dataset.active) event.stopPropagation(); }, true);
  }

  async function start() {
    const canvas = document.createElement("canvas");
    if (!canvas.getContext("webgl2") && !canvas.getContext("webgl")) throw new Error("this browser has no WebGL");
    if (!window.DecompressionStream) throw new Error("this browser is too old (it has no DecompressionStream)");
    const model = new TextDecoder().decode(await unpacked(data.model));
    view.hidden = false;
    viewer = $3Dmol.createViewer(stage, {backgroundColor: "white", antialias: true});
    stage.viewer = viewer;  // within reach of a console
    viewer.addModel(model, "cif");
    const atoms = viewer.selectedAtoms({});
    view.dataset.atoms = atoms.length;
    view.dataset.strays = atoms.filter((atom) => residueOf(atom) === undefined).length;
    if (map) {
      density = await unpacked(map.data);
      near = cellsNear(places(), NEAR_ANGSTROM / map.voxel, map.size);
    }
    viewer.setClickable({}, true, (atom) => { const i = residueOf(atom); if (i !== undefined) select(i, i, false); });
    viewer.setHoverable({}, true, (atom) => {
      const i = residueOf(atom);
      if (i !== undefined) $("model-status").textContent = describe(i);
    }, () => {});
    control("save").href = URL.createObjectURL(new Blob([model], {type: "chemical/x-mmcif"}));
    // a ribbon needs the planes of peptides, which a trace has not
    if (2 * atoms.filter((a) => a.atom === "CA").length > atoms.length) control("style").value = "trace";
    followControls();
    showLegend();
    showModel();
    showMap();
    showAll(0);
    $("model-still").open = false;
    view.dataset.state = "ready";
  }

  followPlots();
  start().catch((error) => {
    viewer = undefined;
    view.hidden = true;
    $("model-note").textContent = `The 3D view cannot be shown: ${error.message}. Pictures are below.`;
    view.dataset.state = "failed";
  });
})();
