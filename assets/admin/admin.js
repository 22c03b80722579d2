// The operator's page: log-in, live status, pictures, QR code. Nothing is kept in the browser but the language.
(function () {
'use strict';
const { $, show, write, make, say, speak, swapLanguage, number, size, span, when, ask, query, thumbOf, fileOf, createLoader, chinese } = window.TuboxAdmin;
const LOOK_MS = 3000; // between two looks at the status
const LOOK_SLOW_MS = 20000; // the most when the box does not answer
const ROWS = 60; // pictures asked for at a time
const FAILED_STEP = 20;
const LOW_DISK = 1e9;

let view = 'status';
let inside = false;
let status = null;
let seenAt = '';

function tell(text) { write($('notice'), text || ''); show($('notice'), text); }

// ---- log-in ----
async function logIn(token) {
  const a = await ask('/admin/login', {
    method: 'POST', headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body: 'token=' + encodeURIComponent(token),
  });
  if (a.status === 200) return enter();
  leave(a.status === 429 ? say('too_often', { n: a.after }) : a.status === 401 ? say('wrong_token') : say('unreachable_now'));
  return undefined;
}
function leave(text) {
  inside = false;
  status = null;
  show($('login'), true);
  ['views', 'status', 'pictures', 'invite'].forEach((id) => show($(id), false));
  closeViewer();
  clearGallery();
  tell(text);
  $('token').focus();
}
function enter() {
  inside = true;
  $('token').value = '';
  tell('');
  show($('login'), false);
  show($('views'), true);
  open(view);
  look();
}
// The link's fragment is the token: it logs in and disappears from the address.
async function begin() {
  const token = decodeFragment();
  if (location.hash) history.replaceState(null, '', location.pathname + location.search);
  const a = token ? await logIn(token).then(() => null) : await ask('/admin/status?failed=0');
  show($('opening'), false);
  if (!a) return;
  if (a.status === 200) enter();
  else leave(a.status === 401 ? '' : say('unreachable_now'));
}
function decodeFragment() {
  try { return decodeURIComponent(location.hash.slice(1)); } catch (e) { return location.hash.slice(1); }
}
$('login').onsubmit = (e) => {
  e.preventDefault();
  logIn($('token').value.trim().replace(/^.*#/, ''));
};
$('logout').onclick = async () => {
  await ask('/admin/logout', { method: 'POST' });
  leave('');
};
// An answer that tells whether we are still logged in.
function checked(a) {
  if (a.status === 401 && inside) leave(say('ended'));
  return a.status === 200;
}

// ---- views ----
function open(name) {
  view = name;
  ['status', 'pictures', 'invite'].forEach((id) => show($(id), id === name));
  document.querySelectorAll('[data-view]').forEach((b) => {
    if (b.dataset.view === name) b.setAttribute('aria-current', 'page');
    else b.removeAttribute('aria-current');
  });
  if (name === 'pictures' && !days.length) loadDays();
  if (name === 'invite') drawInvite();
  if (name === 'status') drawStatus();
}
document.querySelectorAll('[data-view]').forEach((b) => { b.onclick = () => { open(b.dataset.view); window.scrollTo(0, 0); }; });

// ---- live status ----
let timer = 0;
let misses = 0;
let looking = false;
async function look() {
  clearTimeout(timer);
  if (!inside || document.hidden || looking) return;
  looking = true;
  const a = await ask('/admin/status?failed=0');
  looking = false;
  if (!inside) return;
  misses = a.status === 200 ? 0 : misses + 1;
  if (checked(a)) {
    status = a.body;
    seenAt = new Date().toISOString();
    tell('');
    if (status.failed_count !== failedSeen) loadFailed();
    if (status.last_saved_at && status.last_saved_at !== lastSeen) loadLast();
    if (view === 'status') drawStatus();
    if (view === 'invite') drawInvite();
  } else if (inside) {
    tell(say(seenAt ? 'unreachable' : 'unreachable_now', { when: when(seenAt) }));
  }
  if (inside) timer = setTimeout(look, Math.min(LOOK_SLOW_MS, LOOK_MS * Math.pow(2, misses)));
}
document.addEventListener('visibilitychange', () => { if (!document.hidden) look(); });

function facts(list, rows) {
  const wanted = rows.filter((r) => r && r[1] !== '' && r[1] !== null && r[1] !== undefined);
  while (list.children.length > wanted.length) list.lastChild.remove();
  wanted.forEach((r, i) => {
    const row = list.children[i] || list.appendChild(make('div'));
    const dt = row.children[0] || row.appendChild(make('dt'));
    const dd = row.children[1] || row.appendChild(make('dd'));
    write(dt, r[0]);
    write(dd, String(r[1]));
    dd.className = r[2] || '';
  });
}
function leadOf(s) {
  const owed = s.waiting + s.downloading;
  if (s.paused) return ['lead_paused', {}, owed ? 'hint_waiting' : '', { n: number(owed) }];
  if (s.failed_count) return ['lead_failed', { n: number(s.failed_count) }, owed ? 'hint_waiting' : '', { n: number(owed) }];
  if (s.downloading) return ['lead_busy', { n: number(owed) }, '', {}];
  if (s.waiting) return ['lead_waiting', { n: number(s.waiting) }, '', {}];
  return s.saved ? ['lead_all', {}, 'hint_all', {}] : ['lead_none', {}, 'hint_none', {}];
}
function stick(last) {
  if (!last || !last.state) return null;
  const known = ['working', 'done', 'gone'].includes(last.state);
  const text = say('stick_' + (known ? last.state : 'failed'), { when: when(last.since), text: last.reason || '' });
  return [say('stick'), text, known ? '' : 'warn'];
}
function drawStatus() {
  const s = status;
  if (!s) return;
  const [lead, leadValues, hint, hintValues] = leadOf(s);
  write($('lead'), say(lead, leadValues));
  write($('leadHint'), hint ? say(hint, hintValues) : '');
  show($('leadHint'), hint);
  show($('pause'), s.paused);
  if (s.paused) {
    write($('pauseReason'), s.paused.reason + (s.paused.code ? ' (' + s.paused.code + ')' : ''));
    write($('pauseRemedy'), say('remedy', { text: s.paused.remedy }));
    write($('pauseUntil'), say('next_try', { when: when(s.paused.until) }));
  }
  show($('disk'), s.disk_free_bytes !== null && s.disk_free_bytes < LOW_DISK);
  write($('disk'), say('low_disk', { size: size(s.disk_free_bytes) }));
  facts($('numbers'), [[say('saved'), number(s.saved)], [say('waiting'), number(s.waiting)], [say('downloading'), number(s.downloading)], [say('failed'), number(s.failed_count)]]);
  $('numbers').lastChild.className = s.failed_count ? 'some' : '';
  const c = s.credentials || {};
  const off = Math.abs(s.clock_offset_ms || 0) / 1000;
  const oldest = s.oldest_deadline_seconds;
  facts($('facts'), [
    [say('oldest'), oldest === null ? say('oldest_none') : say('oldest_in', { time: span(oldest) }), oldest !== null && oldest < 86400 ? 'warn' : ''],
    s.waiting ? [say('next_due'), s.next_due_seconds ? say('in_time', { time: span(s.next_due_seconds) }) : say('now')] : null,
    [say('today'), number(s.saved_today || 0)],
    stick(s.stick),
    [say('disk_free'), s.disk_free_bytes === null ? say('unknown') : size(s.disk_free_bytes)],
    [say('credentials'), c.token_ends_in_seconds ? say('credentials_good', { time: span(c.token_ends_in_seconds) }) : c.fault || say('credentials_none'), c.token_ends_in_seconds ? '' : 'warn'],
    [say('ticket'), c.ticket_age_seconds === null || c.ticket_age_seconds === undefined ? say('credentials_none') : say('ticket_good', { time: span(c.ticket_age_seconds) })],
    s.clock_offset_ms === null ? null : [say('clock'), off < 60 ? say('clock_good') : say('clock_off', { time: span(off) }), off < 60 ? '' : 'warn'],
    [say('folder'), s.pictures_dir],
    [say('version'), s.version],
  ]);
}
$('resume').onclick = async () => {
  $('resume').disabled = true;
  checked(await ask('/admin/resume', { method: 'POST' }));
  $('resume').disabled = false;
  look();
};

// ---- failed list ----
let failedSeen = -1;
let failed = [];
let failedShown = FAILED_STEP;
async function loadFailed() {
  const a = await ask('/admin/status?failed=1000');
  if (!checked(a)) return;
  failedSeen = a.body.failed_count;
  failed = a.body.failed || [];
  drawFailed();
}
function drawFailed() {
  show($('failedPart'), failed.length);
  write($('failedHeading'), say('failed_list', { n: number(Math.max(failedSeen, failed.length)) }));
  const list = $('failed');
  const text = JSON.stringify([failed.slice(0, failedShown), chinese()]);
  show($('moreFailed'), failed.length > failedShown);
  if (list.dataset.text === text) return;
  list.dataset.text = text;
  list.textContent = '';
  // one reason is said once, whatever number of pictures it befell
  const kinds = new Map();
  failed.slice(0, failedShown).forEach((f) => kinds.set(f.code, (kinds.get(f.code) || []).concat(f)));
  kinds.forEach((all, code) => {
    const kind = list.appendChild(make('section', 'kind'));
    const ids = failed.filter((f) => f.code === code).map((f) => f.media_id);
    kind.appendChild(make('h3', 'why', say('kind_n', { reason: all[0].reason, n: number(ids.length) })));
    kind.appendChild(make('p', '', say('remedy', { text: all[0].remedy })));
    if (ids.length > 1) {
      const again = kind.appendChild(make('button', '', say('retry_kind', { n: number(ids.length) })));
      again.onclick = () => retry({ ids }, again);
    }
    const rows = kind.appendChild(make('ul', 'rows'));
    all.forEach((f) => addFailed(rows, f));
  });
}
function addFailed(rows, f) {
  const li = rows.appendChild(make('li'));
  const text = li.appendChild(make('div'));
  text.appendChild(make('p', 'code', f.media_id));
  text.appendChild(make('p', 'hint', [when(f.failed_at), f.code, f.detail].filter(Boolean).join(' · ')));
  const again = li.appendChild(make('button', '', say('retry')));
  again.setAttribute('aria-label', say('retry_of', { id: f.media_id }));
  again.onclick = () => retry({ ids: [f.media_id] }, again);
}
async function retry(what, button) {
  button.disabled = true;
  const a = await ask('/admin/retry', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(what) });
  button.disabled = false;
  if (!checked(a)) { if (inside) tell(a.body.msg || say('unreachable_now')); return; }
  await loadFailed();
  look();
}
$('retryAll').onclick = () => retry({ all: true }, $('retryAll'));
$('moreFailed').onclick = () => { failedShown += FAILED_STEP; drawFailed(); };

// ---- the last picture ----
let lastSeen = '';
let last = null;
async function loadLast() {
  lastSeen = status.last_saved_at;
  const d = await ask('/admin/days?count=1');
  if (!checked(d) || !d.body.days.length) return;
  const day = d.body.days[0].day;
  const a = await ask('/admin/day/' + day + '?count=1');
  if (!checked(a) || !a.body.pictures.length) return;
  last = { day, row: a.body.pictures[0] };
  $('lastThumb').src = thumbOf(day, last.row);
  drawLast();
  stale = true; // the gallery was read before this picture came
}
function drawLast() {
  show($('lastPart'), last);
  if (!last) return;
  $('lastPicture').setAttribute('aria-label', say('open_last'));
  write($('lastTime'), when(last.row.saved_at));
  write($('lastWho'), [last.row.team, last.row.contributor].filter(Boolean).join(' · '));
}
$('lastPicture').onclick = () => view_(Object.assign({ list: [last.row], day: last.day, total: 1 }), 0, $('lastPicture'));

// ---- gallery ----
let days = []; // one object a day: what the box said of it, its element, the rows that were read
let daysTotal = 0;
let stale = false;
let picking = false;
const picks = new Map(); // '2026-11-22/name' -> button
const loader = createLoader(4);
const jobs = new WeakMap(); // tile -> thumbnail
const nearby = new IntersectionObserver((all) => all.forEach((e) => {
  const job = jobs.get(e.target);
  if (job && e.isIntersecting) loader.want(job);
  else if (job) loader.leave(job);
}), { rootMargin: '800px' });
const ends = new IntersectionObserver((all) => all.forEach((e) => {
  if (e.isIntersecting) loadRows(e.target.ofDay);
}), { rootMargin: '1200px' });

function clearGallery() {
  days = [];
  picks.clear();
  $('days').textContent = '';
  picking = false;
  drawPicks();
}
let loadingDays = false;
async function loadDays() {
  if (loadingDays) return;
  loadingDays = true;
  const a = await ask('/admin/days?' + query({ from: days.length, count: 10 }));
  loadingDays = false;
  if (!checked(a)) { if (inside) tell(a.body.msg || say('unreachable_now')); return; }
  daysTotal = a.body.total;
  a.body.days.forEach((d) => {
    if (days.some((x) => x.day === d.day)) return;
    days.push(addDay(d));
  });
  show($('noPictures'), !days.length);
  show($('takeAll'), days.length);
  show($('moreDays'), days.length < daysTotal);
  drawTakeAll();
  if (days.length && !days.some((d) => d.el.open)) days[0].el.open = true;
}
$('moreDays').onclick = loadDays;

function options(select, teams, total) {
  const chosen = select.value;
  select.textContent = '';
  const put = (value, text) => { const o = select.appendChild(make('option', '', text)); o.value = value; };
  put('', say('all_teams') + (total ? ' (' + number(total) + ')' : ''));
  // a value for the nameless team that no team can have: names never hold a line break
  teams.forEach((t) => put(t.team || '\n', say('team_n', { team: t.team || say('no_team'), n: number(t.pictures) })));
  select.value = chosen;
  if (select.selectedIndex < 0) select.selectedIndex = 0;
}
const teamOf = (select) => (select.value === '' ? null : select.value === '\n' ? '' : select.value);
function links(box, day, team) {
  box.textContent = '';
  const q = query({ day, team });
  [['zip', '/admin/zip', 'primary'], ['sheet', '/admin/sheet', ''], ['csv', '/admin/positions.csv', ''], ['geojson', '/admin/positions.geojson', '']].forEach((x) => {
    if (x[0] === 'sheet' && !day) return;
    const a = box.appendChild(make('a', 'button ' + x[2], say(x[0])));
    a.href = x[1] + (q ? '?' + q : '');
    a.dataset.take = x[0];
  });
}
function drawTakeAll() {
  const teams = new Map();
  days.forEach((d) => d.teams.forEach((t) => teams.set(t.team, (teams.get(t.team) || 0) + t.pictures)));
  options($('allTeam'), Array.from(teams, (t) => ({ team: t[0], pictures: t[1] })), 0);
  links($('allLinks'), null, teamOf($('allTeam')));
}
$('allTeam').onchange = () => links($('allLinks'), null, teamOf($('allTeam')));

function addDay(said) {
  const d = Object.assign({ list: [], names: new Set(), from: 0, total: said.pictures, busy: false, turn: 0 }, said);
  d.el = $('days').appendChild(make('details', 'card day'));
  d.el.dataset.day = d.day;
  d.summary = d.el.appendChild(make('summary'));
  d.summary.appendChild(make('h2', '', d.day));
  d.brief = d.summary.appendChild(make('span', 'hint'));
  const field = d.el.appendChild(make('div', 'field'));
  d.label = field.appendChild(make('label'));
  d.select = field.appendChild(make('select'));
  d.select.id = 'team-' + d.day;
  d.label.htmlFor = d.select.id;
  d.links = d.el.appendChild(make('p', 'links'));
  d.pick = make('button');
  d.grid = d.el.appendChild(make('div'));
  d.more = d.el.appendChild(make('button'));
  d.more.ofDay = d;
  d.more.onclick = () => loadRows(d);
  d.pick.onclick = () => { picking = !picking; if (!picking) clearPicks(); drawPicks(); };
  d.select.onchange = () => { resetRows(d); drawDay(d); loadRows(d); };
  d.el.ontoggle = () => {
    if (d.el.open && !d.list.length) loadRows(d);
    if (d.el.open) ends.observe(d.more);
    else ends.unobserve(d.more);
  };
  drawDay(d);
  return d;
}
function drawDay(d) {
  write(d.brief, say('day_brief', { n: number(d.pictures), size: size(d.bytes) }));
  write(d.label, say('team'));
  options(d.select, d.teams, d.pictures);
  links(d.links, d.day, teamOf(d.select));
  d.links.insertBefore(d.pick, d.links.children[1]);
  write(d.more, say('more_pictures'));
  show(d.more, d.from < d.total);
  drawPickButton(d);
}
function resetRows(d) {
  d.grid.querySelectorAll('.tile').forEach((tile) => { nearby.unobserve(tile); picks.delete(tile.pick); });
  Object.assign(d, { list: [], names: new Set(), from: 0, total: d.pictures, turn: d.turn + 1, busy: false });
  d.grid.textContent = '';
  drawPicks();
}
async function loadRows(d) {
  if (d.busy || !d.el.open || (d.list.length && d.from >= d.total)) return;
  d.busy = true;
  const turn = d.turn;
  write(d.more, say('loading'));
  const a = await ask('/admin/day/' + d.day + '?' + query({ from: d.from, count: ROWS, team: teamOf(d.select) }));
  if (turn !== d.turn) return;
  d.busy = false;
  write(d.more, say('more_pictures'));
  if (!checked(a)) return;
  d.from += ROWS;
  d.total = a.body.total;
  // pictures that came since the last part push the others on: none is shown twice
  const fresh = a.body.pictures.filter((row) => !d.names.has(row.file));
  if (fresh.length) addTiles(d, fresh);
  show(d.more, d.from < d.total);
  ends.unobserve(d.more); // look again whether the end is still in sight
  if (d.from < d.total) ends.observe(d.more);
}
function addTiles(d, rows) {
  const chunk = d.grid.appendChild(make('ul', 'tiles' + (picking ? ' picking' : '')));
  rows.forEach((row) => {
    const at = d.list.length;
    d.list.push(row);
    d.names.add(row.file);
    const tile = chunk.appendChild(make('li', 'tile'));
    const button = tile.appendChild(make('button'));
    const img = button.appendChild(make('img'));
    img.decoding = 'async';
    img.alt = '';
    tile.appendChild(make('span', 'tick'));
    tile.pick = d.day + '/' + row.file;
    button.setAttribute('aria-label', say('picture', { n: number(at + 1), who: [row.team, row.contributor, when(row.submitted_at)].filter(Boolean).join(', ') }));
    button.onclick = () => (picking ? toggle(tile, button) : view_(d, at, button));
    jobs.set(tile, loader.job(img, thumbOf(d.day, row)));
    nearby.observe(tile);
  });
}

// ---- selection ----
function toggle(tile, button) {
  if (picks.has(tile.pick)) picks.delete(tile.pick);
  else picks.set(tile.pick, button);
  button.setAttribute('aria-pressed', picks.has(tile.pick));
  drawPicks();
}
function clearPicks() {
  picks.forEach((button) => button.setAttribute('aria-pressed', 'false'));
  picks.clear();
}
function drawPickButton(d) {
  write(d.pick, say(picking ? 'pick_end' : 'pick'));
  d.pick.setAttribute('aria-pressed', picking);
}
function drawPicks() {
  days.forEach((d) => {
    drawPickButton(d);
    d.grid.querySelectorAll('.tiles').forEach((ul) => {
      if (ul.classList.contains('picking') === picking) return;
      ul.classList.toggle('picking', picking);
      ul.querySelectorAll('button').forEach((b) => { if (picking) b.setAttribute('aria-pressed', 'false'); else b.removeAttribute('aria-pressed'); });
    });
  });
  show($('picked'), picking);
  write($('pickedCount'), say('picked', { n: number(picks.size) }));
  $('pickedZip').disabled = !picks.size;
}
$('pickedNone').onclick = () => { clearPicks(); drawPicks(); };
$('picked').onsubmit = () => {
  const form = $('picked');
  form.querySelectorAll('input').forEach((x) => x.remove());
  picks.forEach((button, name) => {
    const x = form.appendChild(make('input'));
    Object.assign(x, { type: 'hidden', name: 'pick', value: name });
  });
};

// ---- one picture ----
let viewed = null; // { d, at, from }
function view_(d, at, from) {
  if (!viewed) history.pushState({ viewer: true }, '');
  viewed = { d, at, from: from || (viewed && viewed.from) };
  show($('viewer'), true);
  document.body.classList.add('viewing');
  drawViewer();
  $('viewer').scrollTop = 0;
  $('viewerClose').focus();
}
function drawViewer() {
  if (!viewed) return;
  const { d, at } = viewed;
  const row = d.list[at];
  const img = $('viewerImage');
  const src = fileOf(d.day, row);
  $('viewerBack').disabled = at === 0;
  $('viewerOn').disabled = at + 1 >= d.total;
  if (img.dataset.src !== src) {
    img.dataset.src = src;
    show($('viewerTrouble'), false);
    // the small one first, the large one when it has come
    img.src = thumbOf(d.day, row);
    const large = new Image();
    large.onload = () => { if (img.dataset.src === src) img.src = src; };
    large.onerror = () => { if (img.dataset.src === src) show($('viewerTrouble'), true); };
    large.src = src;
  }
  img.alt = say('picture', { n: number(at + 1), who: [row.team, row.contributor].filter(Boolean).join(', ') });
  write($('viewerName'), row.file);
  write($('viewerTrouble'), say('not_shown'));
  $('viewerFile').href = src + '?download=1';
  const pixels = row.width && row.height ? row.width + ' × ' + row.height + ' · ' : '';
  facts($('viewerFacts'), [
    [say('team'), row.team], [say('contributor'), row.contributor], [say('note'), row.note],
    [say('submitted'), row.clock ? say('clock_unsure', { when: when(row.submitted_at) }) : when(row.submitted_at)], [say('saved_at'), when(row.saved_at)],
    [say('position'), row.latitude && row.longitude ? row.latitude + ', ' + row.longitude : ''],
    [say('measure'), pixels + size(row.bytes) + ' · ' + row.content_type],
    ['SHA-256', row.sha256, 'code'], [say('media_id'), row.media_id, 'code'], [say('receipt'), row.receipt, 'code'],
  ]);
}
function closeViewer() {
  if (!viewed) return;
  const from = viewed.from;
  viewed = null;
  show($('viewer'), false);
  document.body.classList.remove('viewing');
  $('viewerImage').removeAttribute('src');
  $('viewerImage').dataset.src = '';
  if (from && from.isConnected) from.focus();
}
async function step(by) {
  if (!viewed) return;
  const { d, at } = viewed;
  if (at + by >= d.list.length && d.el) await loadRows(d);
  if (viewed && d.list[at + by]) { viewed.at = at + by; drawViewer(); }
}
$('viewerClose').onclick = () => history.back();
$('viewerBack').onclick = () => step(-1);
$('viewerOn').onclick = () => step(1);
window.addEventListener('popstate', closeViewer);
document.addEventListener('keydown', (e) => {
  if (!viewed) return;
  if (e.key === 'Escape') history.back();
  if (e.key === 'ArrowLeft') step(-1);
  if (e.key === 'ArrowRight') step(1);
  if (e.key !== 'Tab') return;
  // the page below is out of reach while a picture is open
  const all = Array.from($('viewer').querySelectorAll('button:not(:disabled), a[href]'));
  const end = e.shiftKey ? all[0] : all[all.length - 1];
  if (document.activeElement === end) { e.preventDefault(); (e.shiftKey ? all[all.length - 1] : all[0]).focus(); }
});

// ---- the QR code ----
function inviteAddress() {
  const team = $('inviteTeam').value.trim();
  return (status ? status.public_url : '') + '/uploadImgDemo' + (team ? '?team=' + encodeURIComponent(team) : '');
}
function drawInvite() {
  if (!status) return;
  const address = inviteAddress();
  write($('posterTeam'), $('inviteTeam').value.trim());
  show($('posterTeam'), $('inviteTeam').value.trim());
  write($('posterAddress'), decodeURI(address));
  const src = '/qr.svg?' + query({ url: address });
  if ($('qr').getAttribute('src') !== src) $('qr').src = src;
  $('qr').alt = say('qr', { address: decodeURI(address) });
}
let typing = 0;
$('inviteTeam').oninput = () => { clearTimeout(typing); typing = setTimeout(drawInvite, 250); };
$('print').onclick = () => window.print();
$('copyAddress').onclick = async () => {
  let word = 'copied';
  try { await navigator.clipboard.writeText(inviteAddress()); } catch (e) { word = 'copy_failed'; }
  write($('copyAddress'), say(word));
  setTimeout(() => write($('copyAddress'), say('copy')), 3000);
};

// ---- language ----
function redraw() {
  speak();
  document.title = say('title');
  write($('language'), say('other_language'));
  $('language').lang = chinese() ? 'en' : 'zh-CN';
  show($('language'), true);
  drawStatus();
  drawFailed();
  drawLast();
  drawTakeAll();
  days.forEach(drawDay);
  drawPicks();
  drawViewer();
  drawInvite();
}
$('language').onclick = () => {
  swapLanguage();
  redraw();
  if (inside) { failedSeen = -1; look(); } // reasons and remedies come in the new language
};
document.querySelector('[data-view=pictures]').addEventListener('click', () => {
  if (!stale || viewed || picks.size) return;
  stale = false;
  clearGallery();
  loadDays();
});
redraw();
begin();
})();
