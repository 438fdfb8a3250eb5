"use strict";

// Filters of mistakes: a card is shown if it has what each filter asks for.
for (const section of document.querySelectorAll(".mistakes")) {
  const filters = section.querySelector(".filters");
  const inputs = [...filters.querySelectorAll("[data-side]")];
  const cards = [...section.querySelectorAll(".card")].map((card) => ({
    card,
    sides: JSON.parse(card.querySelector(".sides").textContent),
    text: card.querySelector("blockquote").textContent.toLowerCase(),
  }));
  const show = () => {
    let shown = 0;
    for (const { card, sides, text } of cards) {
      card.hidden = !inputs.every(({ value, dataset }) =>
        !value || (dataset.side === "text" ? text.includes(value.toLowerCase()) : sides[dataset.side].includes(value)));
      shown += card.hidden ? 0 : 1;
    }
    filters.querySelector(".shown").textContent = `${shown} of ${cards.length} shown`;
  };
  inputs.forEach((input) => input.addEventListener("input", show));
  filters.hidden = false;
}

// The confusion matrix says which cell a reader points at.
for (const values of document.querySelectorAll("script.values")) {
  const known = JSON.parse(values.textContent);
  const figure = values.closest("figure");
  const drawing = figure.querySelector("svg");
  const readout = figure.querySelector(".readout");
  const totals = known.rows.map((row) => row.reduce((sum, part, at) => sum + (at % 2 ? part : 0), 0));
  drawing.addEventListener("pointermove", (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
    const [predicted, truth] = [point.x, point.y].map((at) => Math.floor((at - known.room) / known.cell));
    const row = known.rows[truth];
    if (!row || predicted < 0 || predicted >= known.names.length) {
      readout.textContent = "";
      return;
    }
    const at = row.findIndex((part, place) => place % 2 === 0 && part === predicted);
    const rows = at < 0 ? 0 : row[at + 1];
    const share = totals[truth] ? Math.round((1000 * rows) / totals[truth]) / 10 : 0;
    readout.textContent = `${known.names[truth]} answered as ${known.names[predicted]}: ` +
      `${rows.toLocaleString("en")} of ${totals[truth].toLocaleString("en")} rows (${share} %)`;
  });
}

// A link opens what it leads to; on paper everything is open.
const open = (target) => target && target.querySelectorAll(":scope > details").forEach((one) => { one.open = true; });
addEventListener("hashchange", () => open(document.getElementById(location.hash.slice(1))));
open(document.getElementById(location.hash.slice(1)));
addEventListener("beforeprint", () => document.querySelectorAll(".set > details, .task, .more").forEach((one) => { one.open = true; }));
