"use strict";

const MAX_BARS = 30;
const part = (id) => document.getElementById(id);
let models = [];
let asked = 0; // the number of the last request: an answer to an earlier one comes too late

const make = (tag, text = "", name = "") => {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = name;
  return element;
};

const say = (sentence) => {
  part("error").textContent = sentence;
  part("error").hidden = !sentence;
};

// What the server answers to a request; an Error with its sentence where it refuses.
async function call(address, body) {
  const headers = {};
  if (part("token").value) headers.Authorization = `Bearer ${part("token").value}`;
  if (body) headers["Content-Type"] = "application/json";
  const method = body ? "POST" : "GET";
  let answer;
  try {
    answer = await fetch(address, { method, headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Error("The server does not answer.");
  }
  const found = await answer.json().catch(() => ({}));
  if (answer.status === 401) part("access").hidden = false;
  if (!answer.ok) throw new Error(found.error || `The server answers ${answer.status}.`);
  return found;
}

const chosen = () => models.find(({ name }) => name === part("model").value);

// The form asks for what the chosen model reads.
function fit() {
  const model = chosen();
  part("second-part").hidden = !model.takes_pairs;
  part("second").required = model.takes_pairs;
  part("text-label").textContent = model.takes_pairs ? "First text" : "Text";
  part("fields").replaceChildren(...model.fields.flatMap((name, at) => {
    const [label, input] = [make("label", `${name} (may be left out)`), make("input")];
    label.htmlFor = input.id = `field-${at}`;
    input.dataset.field = name;
    return [label, input];
  }));
  part("answer").replaceChildren();
  say("");
}

function request() {
  const model = chosen();
  const text = part("text").value;
  const body = { inputs: model.takes_pairs ? [[text, part("second").value]] : text };
  const fields = [...part("fields").querySelectorAll("input")].filter(({ value }) => value);
  if (fields.length) body.fields = Object.fromEntries(fields.map(({ dataset, value }) => [dataset.field, value]));
  return body;
}

// Of several tasks, labels are called `task/label`; each task has a table of its own.
function tables(model, rows) {
  const tasks = new Map();
  for (const row of rows) {
    const known = model.tasks.find(({ labels }) => labels.includes(row.label));
    const label = model.tasks.length > 1 ? row.label.slice(known.name.length + 1) : row.label;
    tasks.set(known, [...(tasks.get(known) || []), { ...row, label }]);
  }
  return [...tasks].map(([task, items]) => table(task, items, model.tasks.length > 1));
}

function table(task, items, named) {
  const group = make("section", "", "task");
  if (named) group.append(make("h2", task.name));
  const given = (item, at) => item.answer ?? (task.problem === "multilabel" ? item.score >= 0.5 : at === 0);
  const rows = items.slice(0, MAX_BARS).map((item, at) => {
    const row = make("tr", "", given(item, at) ? "given" : "");
    const label = make("th", item.label);
    label.scope = "row";
    label.dir = "auto";
    if (task.problem === "regression") {
      row.append(label, make("td", String(Number(item.score.toPrecision(6))), "number"));
      return row;
    }
    const bar = make("td", "", "bar");
    bar.append(make("div"));
    bar.firstChild.style.width = `${100 * item.score}%`;
    bar.setAttribute("aria-hidden", "true");
    row.append(label, bar, make("td", item.score.toFixed(4), "number"));
    row.append(make("td", given(item, at) ? "answer" : "", "mark"));
    return row;
  });
  const all = make("table");
  all.append(make("caption", task.problem === "regression" ? "Value" : "Probability of each label"), ...rows);
  group.append(all);
  if (items.length > MAX_BARS) group.append(make("p", `and ${items.length - MAX_BARS} more labels`, "about"));
  if (task.problem !== "regression" && !items.some(given)) group.append(make("p", "No label is given.", "about"));
  return group;
}

async function open() {
  try {
    models = await call("models");
  } catch (error) {
    say(error.message);
    return;
  }
  part("access").hidden = true;
  part("model").replaceChildren(...models.map(({ name }) => new Option(name, name)));
  part("choice").hidden = models.length < 2;
  part("send").disabled = false;
  fit();
}

part("model").addEventListener("change", fit);
part("access").addEventListener("submit", (event) => {
  event.preventDefault();
  open();
});
part("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [number, model] = [++asked, chosen()];
  part("answer").setAttribute("aria-busy", "true");
  let shown = [];
  let sentence = "";
  try {
    const found = await call(`models/${encodeURIComponent(model.name)}/predict`, request());
    shown = tables(model, found.flat());
  } catch (error) {
    sentence = error.message;
  }
  if (number !== asked) return;
  part("answer").replaceChildren(...shown);
  part("answer").removeAttribute("aria-busy");
  say(sentence);
});
part("ask").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) part("ask").requestSubmit();
});
open();
