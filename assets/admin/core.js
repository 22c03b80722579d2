// What both of the operator's pages share: words, numbers, asking the box, and loading thumbnails a few at a time. It does not
// know which page it is on.
var TuboxAdmin = (function () {
'use strict';
const words = window.TuboxAdminWords;
const $ = (id) => document.getElementById(id);
const show = (el, yes) => { el.hidden = !yes; };
const write = (el, text) => { if (el.textContent !== text) el.textContent = text; };
function make(tag, name, text) {
  const el = document.createElement(tag);
  if (name) el.className = name;
  if (tag === 'button') el.type = 'button';
  if (text) el.textContent = text;
  return el;
}

// ---- words and numbers ----
function remembered(key) {
  try { return window.localStorage.getItem(key); } catch (e) { return null; } // storage may be forbidden
}
let lang = /^zh/i.test(remembered('tubox.lang') || document.documentElement.lang) ? 0 : 1;
const tag = () => (lang ? 'en' : 'zh-CN');
function say(word, values) {
  return words[word][lang].replace(/\{(\w+)\}/g, (m, k) => (values && values[k] !== undefined ? values[k] : ''));
}
function speak() {
  document.documentElement.lang = tag();
  document.querySelectorAll('[data-word]').forEach((el) => write(el, say(el.dataset.word)));
}
function swapLanguage() {
  lang = 1 - lang;
  try { window.localStorage.setItem('tubox.lang', tag()); } catch (e) { /* for this visit only */ }
}
const number = (n) => Number(n).toLocaleString(lang ? 'en' : 'zh-CN');
function size(bytes) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let n = Number(bytes) || 0;
  let unit = 0;
  while (n >= 999.5 && unit < units.length - 1) { n /= 1000; unit += 1; }
  return (unit && n < 9.95 ? n.toFixed(1) : String(Math.round(n))) + ' ' + units[unit];
}
function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 90) return s + (lang ? ' s' : ' 秒');
  if (s < 5400) return Math.round(s / 60) + (lang ? ' min' : ' 分钟');
  if (s < 172800) return Math.round(s / 3600) + (lang ? ' h' : ' 小时');
  return Math.round(s / 86400) + (lang ? ' days' : ' 天');
}
function when(text) {
  const t = new Date(text);
  return Number.isNaN(t.getTime()) ? String(text || '') : t.toLocaleString(lang ? 'en-GB' : 'zh-CN', { dateStyle: 'medium', timeStyle: 'short' });
}

// ---- the box ----
// status 0: no answer
async function ask(path, options) {
  const stop = new AbortController();
  const t = setTimeout(() => stop.abort(), 30000);
  const headers = Object.assign({ Accept: 'application/json', 'Accept-Language': tag(), 'X-Tubox-Admin': '1' }, options && options.headers);
  let answer = { status: 0, body: {} };
  try {
    const r = await fetch(path, Object.assign({ credentials: 'same-origin', cache: 'no-store', signal: stop.signal }, options, { headers }));
    answer = { status: r.status, body: {}, after: Number(r.headers.get('Retry-After')) || 0 };
    answer.body = await r.json();
  } catch (e) { /* no network, or no JSON: the status tells */ }
  clearTimeout(t);
  return answer;
}
const query = (values) => Object.keys(values).filter((k) => values[k] !== null && values[k] !== undefined)
  .map((k) => k + '=' + encodeURIComponent(values[k])).join('&');
const thumbOf = (day, row) => '/admin/thumb/' + day + '/' + row.file;
const fileOf = (day, row) => '/admin/picture/' + day + '/' + row.file;

// ---- thumbnails ----
// A few at a time, and again after a while when the box is busy making others. `done` hears of each that has come or is given up.
const TRIES = 6;
function createLoader(most, done) {
  const waiting = [];
  let running = 0;
  function next() {
    while (running < most && waiting.length) {
      const job = waiting.shift();
      job.waiting = false;
      running += 1;
      load(job).then(() => { running -= 1; next(); });
    }
  }
  // An image whose address is taken away in mid-load says nothing more, so that is done only when it has ended.
  function load(job) {
    return new Promise((end) => {
      job.loading = true;
      const ended = (good) => {
        job.img.onload = job.img.onerror = null;
        job.loading = false;
        end();
        if (good) { if (!job.wanted) job.img.removeAttribute('src'); }
        else again(job);
        if (done && (good || job.tries > TRIES)) done(job);
      };
      job.img.onload = () => ended(true);
      job.img.onerror = () => ended(false);
      job.img.src = job.src;
    });
  }
  function again(job) {
    job.img.removeAttribute('src');
    job.tries += 1;
    if (job.tries <= TRIES) setTimeout(() => want(job), 400 * job.tries);
  }
  function want(job) {
    if (!job.wanted || job.waiting || job.loading || job.tries > TRIES || job.img.hasAttribute('src')) return;
    job.waiting = true;
    waiting.push(job);
    next();
  }
  return {
    job: (img, src) => ({ img, src, tries: 0, wanted: false, waiting: false, loading: false }),
    want(job) { job.wanted = true; want(job); },
    // what is far away is let go, so that a long gallery does not fill the memory
    leave(job) {
      job.wanted = false;
      const at = waiting.indexOf(job);
      if (at >= 0) { waiting.splice(at, 1); job.waiting = false; }
      if (!job.loading) job.img.removeAttribute('src');
    },
  };
}

return { $, show, write, make, say, speak, swapLanguage, number, size, span, when, ask, query, thumbOf, fileOf, createLoader, chinese: () => !lang };
})();
