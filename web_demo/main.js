import { loadClassifier } from "./classifier.js";

const [text, second, example, labels, status] = ["text", "pair", "example", "labels", "status"].map(
  (id) => document.getElementById(id),
);

function say(message, isError = false) {
  status.textContent = message;
  status.classList.toggle("error", isError);
}

function row({ label, score, holds, unsure }) {
  const item = document.createElement("li");
  const name = document.createElement("span");
  const percent = document.createElement("span");
  const bar = document.createElement("meter");
  name.textContent = label;
  percent.textContent = `${(100 * score).toFixed(1)}%`;
  bar.value = score;
  // The number beside it says the same.
  bar.ariaHidden = "true";
  item.classList.toggle("holds", holds && !unsure);
  item.append(name, percent, bar);
  return item;
}

// Keeps all that this page has loaded, so that worker.js can answer without a network. Browsers have
// no service workers on plain http://, localhost aside.
async function keepForOffline() {
  if (!("serviceWorker" in navigator)) return;
  await navigator.serviceWorker.register("worker.js");
  await navigator.serviceWorker.ready;
  const loaded = performance.getEntriesByType("resource").map(({ name }) => name);
  const own = [location.origin + location.pathname, ...loaded].filter((url) =>
    url.startsWith(location.origin),
  );
  const cache = await caches.open(new URL(".", location).pathname);
  // All of them or none: no new model with an old tokenizer.
  await cache.addAll([...new Set(own)]);
  for (const { url } of await cache.keys()) if (!own.includes(url)) await cache.delete(url);
}

async function start() {
  say("Loading the model…");
  const { classify, samples, task, pairs } = await loadClassifier();

  async function answer() {
    const typed = [text.value, ...(pairs ? [second.value] : [])];
    if (typed.includes("")) {
      labels.replaceChildren();
      const what = pairs ? "Type two texts" : "Type a text";
      say(samples.length ? `${what}, or try an example.` : `${what}.`);
      return;
    }
    try {
      const begun = performance.now();
      const scores = await classify(...typed);
      const took = performance.now() - begun;
      if (typed[0] !== text.value || (pairs && typed[1] !== second.value)) return;
      const isScore = task.name === "regression";
      labels.replaceChildren(...(isScore ? [] : scores.map(row)));
      const held = scores.filter(({ holds }) => holds).map(({ label }) => label);
      const shown = isScore ? scores[0].score.toFixed(2) : held.join(", ") || "none";
      say(`${scores[0].unsure ? "unsure" : shown}, in ${took.toFixed(1)} ms`);
    } catch (error) {
      labels.replaceChildren();
      say(error.message, true);
    }
  }

  let timer;
  for (const box of [text, second]) {
    box.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(answer, 150);
    });
  }
  example.addEventListener("click", () => {
    const line = samples[Math.floor(Math.random() * samples.length)];
    [text.value, second.value] = pairs ? line.split("\t") : [line, ""];
    answer();
  });
  for (const part of [second, ...second.labels]) part.hidden = !pairs;
  second.disabled = !pairs;
  example.hidden = samples.length === 0;
  text.disabled = example.disabled = false;
  text.focus();
  answer();
  await keepForOffline().catch((error) =>
    console.warn("This page will not work without a network:", error),
  );
}

start().catch((error) => say(error.message, true));
