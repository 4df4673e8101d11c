"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dialog = document.getElementById("runs");
  const body = document.getElementById("runs-body");

  // Everything from the records enters the page as text, never as markup.
  const make = (name, text, attributes = {}) => {
    const node = document.createElement(name);
    if (text !== undefined) node.textContent = text;
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };
  const add = (parent, ...children) => { parent.append(...children); return parent; };

  const field = (run, column) => data.strings[data.columns[column][run]];

  // Fields that all runs share are said once; the others become columns.
  const split = (runs) => {
    const shared = [], differing = [];
    data.fields.forEach((_, column) => {
      const values = new Set(runs.map((run) => field(run, column)));
      (values.size === 1 && data.fields[column] !== "Seed" ? shared : differing).push(column);
    });
    return [shared, differing];
  };

  const runTable = (entries, columns) => {
    const table = make("table");
    const head = make("tr");
    const order = [...columns].sort((a, b) =>
      (data.fields[b] === "Seed") - (data.fields[a] === "Seed"));
    add(head, make("th", data.fields[order[0]], { scope: "col" }),
      make("th", "Accuracy (%)", { scope: "col" }));
    order.slice(1).forEach((c) => head.append(make("th", data.fields[c], { scope: "col" })));
    const rows = make("tbody");
    for (const [run, value] of entries) {
      const row = make("tr");
      add(row, make("th", field(run, order[0]), { scope: "row" }), make("td", value));
      order.slice(1).forEach((c) => {
        const cell = make("td");
        const text = field(run, c);
        const key = /^[0-9a-f]{40,}$/.test(text);
        cell.append(key ? make("code", text.slice(0, 12), { title: text }) : text);
        row.append(cell);
      });
      rows.append(row);
    }
    add(table, make("caption", "One row per run"), add(make("thead"), head), rows);
    return add(make("div", undefined,
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Runs" }), table);
  };

  const facts = (pairs) => {
    const list = make("dl", undefined, { class: "facts" });
    for (const [name, value] of pairs)
      list.append(add(make("div"), make("dt", name), make("dd", value)));
    return list;
  };

  // How the stages were made is packed, and unpacked when it is first asked for.
  const unpack = async () => {
    const bytes = Uint8Array.from(atob(data.made), (letter) => letter.charCodeAt(0));
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const found = JSON.parse(await new Response(plain).text());
    found.places = new Map(found.keys.map((key, place) => [key, place]));
    return found;
  };
  let unpacked;
  const made = () => (unpacked ??= unpack());

  // The stages behind a run, what it was made from first; each with the parameters it ran with.
  const lineage = (found, run) => {
    const places = [], visit = (place) => {
      if (place === undefined || places.includes(place)) return;
      Object.values(found.stages[place][3]).forEach(visit);
      places.push(place);
    };
    ["Pretraining key", "Evaluation key"].forEach((name) =>
      visit(found.places.get(field(run, data.fields.indexOf(name)))));
    return places;
  };

  const stageOf = (found, place) => {
    const key = found.keys[place];
    const [kind, seed, params, , versions, command, created] = found.stages[place];
    const config = JSON.stringify({ seed, ...found.params[params] }, null, 1);
    const named = Object.entries(found.versions[versions] || {})
      .map(([name, version]) => `${name} ${version}`).join(", ");
    const block = make("pre", config, { tabindex: "0", role: "region",
      "aria-label": `Configuration of ${kind} ${key.slice(0, 12)}` });
    return add(make("details"),
      make("summary", `${kind} ${key.slice(0, 12)}`), block,
      facts([["Key", key], ["Log", `store/logs/${key}.log`],
        ["Artifact", `store/${kind}/${key.slice(0, 2)}/${key}`], ["Made", created],
        ["Versions", named || "not recorded"], ["Made by", found.commands[command] || "--"]]));
  };

  const madeFrom = (found, entries) => {
    const known = entries.map(([run]) => [run, lineage(found, run)])
      .filter(([, places]) => places.length);
    if (!known.length) return [];
    return [make("h3", "How each was made"), ...known.map(([run, places]) => {
      const name = ["Method", "Condition"].map((f) => field(run, data.fields.indexOf(f)));
      const seed = field(run, data.fields.indexOf("Seed"));
      return add(make("details", undefined, { class: "made" }),
        make("summary", `${name.join(", ")}, seed ${seed}: ${places.length} stages`),
        ...places.map((place) => stageOf(found, place)));
    })];
  };

  const showMade = async (place, entries) => {
    if (!data.made) return place.append(make("p", data.elsewhere, { class: "hint" }));
    try {
      place.append(...madeFrom(await made(), entries));
    } catch (error) {
      place.append(make("p", `How each was made cannot be shown (${error.message}); it is in ` +
        "runs.json beside this page.", { class: "hint" }));
    }
  };

  const open = (button) => {
    const entries = button.dataset.runs.split(" ").map((pair) => {
      const [run, value] = pair.split(":");
      return [Number(run), value];
    });
    const [shared, differing] = split(entries.map(([run]) => run));
    const place = make("div");
    document.getElementById("runs-title").textContent = button.dataset.title;
    body.replaceChildren(
      make("p", button.dataset.estimate, { class: "big" }),
      runTable(entries, differing),
      make("h3", "The same for all of them"),
      facts([...shared.map((c) => [data.fields[c], field(entries[0][0], c)]),
        ["Command", data.command]]),
      place,
    );
    showMade(place, entries);
    dialog.showModal();
    dialog.scrollTop = 0;
  };

  const copy = async (button) => {
    const before = button.textContent;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "Copied";
    } catch {
      // without permission to write the clipboard the text is selected instead
      getSelection().selectAllChildren(button.previousElementSibling);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = before; }, 1500);
  };

  document.addEventListener("click", (event) => {
    const cell = event.target.closest("button.cell");
    if (cell) open(cell);
    const command = event.target.closest("button.copy");
    if (command) copy(command);
    if (event.target === dialog) dialog.close();
  });
  document.getElementById("runs-close").addEventListener("click", () => dialog.close());

  // Folded tables are part of the printed report.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach((details) => { details.open = false; }));
})();
