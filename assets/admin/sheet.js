// The contact sheet of a day or of a team's day: every picture small, with its name and its hash, to be printed.
(function () {
'use strict';
const { $, write, make, say, speak, number, when, ask, query, thumbOf, createLoader } = window.TuboxAdmin;
const ROWS = 200;
const MOST = 3000; // what a browser can lay out for paper
const asked = new URLSearchParams(location.search);
const day = asked.get('day') || '';
const team = asked.get('team');

let wanted = 0;
let done = 0;
let all = false;
const loader = createLoader(4, () => { done += 1; progress(); });
function progress() {
  const ready = all && done >= wanted;
  write($('progress'), ready ? say('sheet_ready') : say('sheet_wait', { done: number(done), n: number(wanted) }));
  $('print').disabled = !ready;
}
function add(row) {
  const li = $('sheet').appendChild(make('li'));
  const img = li.appendChild(make('img'));
  img.alt = row.file;
  li.appendChild(make('p', 'code', row.file));
  const who = [row.team, row.contributor].filter(Boolean).join(' · ');
  if (who) li.appendChild(make('p', '', who));
  if (row.note) li.appendChild(make('p', '', row.note));
  li.appendChild(make('p', 'code', row.sha256));
  wanted += 1;
  loader.want(loader.job(img, thumbOf(day, row)));
}
async function begin() {
  speak();
  document.title = say('sheet') + ' · ' + day;
  write($('heading'), [say('sheet'), day, team].filter(Boolean).join(' · '));
  const names = new Set();
  for (let from = 0; from < MOST; from += ROWS) {
    const a = await ask('/admin/day/' + encodeURIComponent(day) + '?' + query({ team, from, count: ROWS }));
    if (a.status !== 200) {
      write($('progress'), a.status === 401 ? say('sheet_login') : a.body.msg || say('unreachable_now'));
      return;
    }
    a.body.pictures.forEach((row) => { if (!names.has(row.file)) { names.add(row.file); add(row); } });
    write($('about'), say('sheet_about', { n: number(names.size), when: when(new Date().toISOString()) }) + (a.body.total > MOST ? ' · ' + say('too_many', { n: number(MOST) }) : ''));
    if (from + ROWS >= a.body.total) break;
  }
  all = true;
  progress();
}
$('print').onclick = () => window.print();
begin();
})();
