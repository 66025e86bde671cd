"use strict";
// Adds sorting and filtering to what is complete without them. No framework, no network.
(() => {
  const FILTERED = 10; // rows from which on a table gets a filter

  const value = (row, column, number) => {
    const text = row.cells[column].textContent.trim();
    if (!number) return text.toLowerCase();
    const found = /[+-]?[\d,]*\.?\d+(e[+-]?\d+)?/i.exec(text);
    return found ? Number(found[0].replaceAll(",", "")) : null;
  };

  const compare = (a, b, up) => {
    if (a === null || b === null) return (a === null) - (b === null); // what has no number stands last, either way
    const order = typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
    return up ? order : -order;
  };

  const sort = (table, head) => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    const number = head.classList.contains("number");
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => [value(row, head.cellIndex, number), row]);
    keyed.sort((a, b) => compare(a[0], b[0], up));
    body.append(...keyed.map((pair) => pair[1]));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
  };

  const sortable = (table) => {
    for (const head of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(table, head));
    }
  };

  const filterable = (table) => {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < FILTERED) return;
    const bar = document.createElement("p");
    const label = document.createElement("label");
    const input = document.createElement("input");
    const count = document.createElement("output");
    bar.className = "filter";
    input.type = "search";
    input.autocomplete = "off";
    input.setAttribute("aria-controls", table.id);
    label.append("Filter rows ", input);
    bar.append(label, " ", count);
    const apply = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      count.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
    };
    input.addEventListener("input", apply);
    table.parentElement.before(bar);
  };

  const openTarget = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let at = target; at; at = at.parentElement) if (at instanceof HTMLDetailsElement) at.open = true;
    target?.scrollIntoView();
  };

  // A box that goes on to the right fades out there, so that no cut number passes for another.
  const fade = (box) => box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);

  for (const table of document.querySelectorAll("main table")) {
    sortable(table);
    filterable(table);
  }
  const resized = new ResizeObserver((seen) => seen.forEach((one) => fade(one.target.closest(".scroll"))));
  for (const box of document.querySelectorAll(".scroll")) {
    box.addEventListener("scroll", () => fade(box), { passive: true });
    resized.observe(box);
    resized.observe(box.firstElementChild);
  }
  addEventListener("hashchange", openTarget);
  openTarget();
})();
