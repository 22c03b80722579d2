// Elements, `wx`, fetch. What to do is decided in core.js, how it is said in words.js.
(function () {
'use strict';
const core = TuboxCore;
const $ = (id) => document.getElementById(id);
const settings = {
  upload_watchdog_ms: 90000, config_wait_ms: 9000, preview_wait_ms: 9000,
  poll_first_ms: 1000, poll_most_ms: 15000, retry_first_ms: 2000, retry_most_ms: 60000, ...core.parse($('page-settings').textContent),
};
const memory = core.createMemory(() => localStorage, Date.now);
const place = settings.demo ? 'demo' : core.whereAmI(navigator.userAgent);
const mode = settings.receipt ? 'receipt' : /wxwork|outside/.test(place) ? 'outside' : 'work';
const here = location.href.split('#')[0];
const retries = () => core.createPause(settings.retry_first_ms, settings.retry_most_ms);
function add(parent, tag, className, text, onclick) {
  return parent.appendChild(Object.assign(document.createElement(tag), { className, textContent: text || '', onclick }));
}
// What has not changed is left alone: a finger may be on it.
const write = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
function refill(el, rows, draw) {
  const text = JSON.stringify([lang, rows]);
  if (el.dataset.text === text) return;
  el.dataset.text = text;
  el.textContent = '';
  rows.forEach(draw);
}

// -- words
let lang = /^zh/i.test(memory.read('lang') || settings.lang) ? 'zh-CN' : 'en';
const say = (word, values = {}) => TuboxWords[word][lang === 'en' ? 1 : 0].replace(/\{(\w+)\}/g, (m, k) => values[k] || '').replace(/（）|\(\)/, '').trim();
function speak() {
  document.documentElement.lang = lang;
  document.title = say('heading');
  document.querySelectorAll('[data-word]').forEach((el) => { el.textContent = say(el.dataset.word); });
  redraw();
}
$('language').onclick = () => {
  lang = lang === 'en' ? 'zh-CN' : 'en';
  memory.write('lang', lang);
  speak();
};

// -- notices: one sentence a slot
const notices = {};
function tell(slot, word, values, again) {
  notices[slot] = word && { word, values, again };
  redraw();
}
function drawNotice({ word, values, again }) {
  const p = add($('notices'), 'p', 'card notice', say(word, values));
  p.dataset.notice = word;
  if (again) add(p, 'button', '', say('again'), again);
}

// -- the box
function ask(path, body) {
  const headers = { Accept: 'application/json', 'Accept-Language': lang, 'Content-Type': 'application/x-www-form-urlencoded' };
  const asked = fetch(path, { method: body ? 'POST' : 'GET', body, headers, credentials: 'same-origin', cache: 'no-store' })
    .then(async (r) => core.readAnswer(r.status, await r.text(), r.headers.get('Retry-After')));
  return core.within(30000, asked).catch(() => core.readAnswer(0));
}

// -- WeChat: script, config, calls
const call = (name, args) => new Promise((success, fail) => wx[name]({ success, fail, cancel: fail, ...args }));
const wxHere = () => window.wx && wx.config;
const pause = retries();
async function loadWx() {
  for (const url of settings.jssdk_urls) {
    if (!wxHere()) await core.within(settings.config_wait_ms, new Promise((done, fail) => {
      const look = setInterval(() => wxHere() && done(clearInterval(look)), 50); // `wx` may appear late
      Object.assign(add(document.head, 'script'), { onerror: fail, src: url });
    })).catch(() => {});
  }
  if (wxHere()) return configure();
  tell('wechat', 'script_missing', {}, () => pause.wake());
  await pause.rest();
  return loadWx();
}
let ready = false;
let current; // configuration; earlier ones fall silent
let renewed = false; // a new signature is tried once, silently; then it is said
let wantsChooser = 0; // when it was tapped too early
let onConfigError;
// Ready is called after a failed config too, at once when there was an earlier one, and error perhaps never: so there are an
// own flag, an own timer, and a harmless call as a probe. An answer that comes late still counts.
async function configure(why) {
  const mine = current = {};
  const open = () => mine === current;
  const again = onConfigError;
  let config = !why && core.usableConfig($('jssdk-config').textContent, here);
  ready = false;
  while (!config) {
    const a = await ask('/jssdk-config?url=' + encodeURIComponent(here) + (why === 'signature' ? '&refused=1' : ''));
    if (!open()) return;
    if (a.kind === 'ok') config = a.body;
    else {
      tell('wechat', a.status === 403 ? 'wrong_address' : a.kind === 'busy' ? 'permit' : 'unreachable');
      await pause.rest(a.after);
    }
  }
  const jsApiList = ['checkJsApi', 'chooseImage', 'uploadImage', 'getLocalImgData', 'getNetworkType', 'getLocation'];
  const probed = () => setTimeout(() => {
    if (!open()) return;
    ready = true;
    tell('wechat');
    if (Date.now() - wantsChooser < 15000) choose();
    uploader.run();
  }, again ? 400 : 30);
  onConfigError = (text) => open() && trouble(core.troubleOf(text) || 'signature', text);
  setTimeout(() => open() && !ready && tell('wechat', 'silent', {}, () => configure('silent')), settings.config_wait_ms);
  wx.config({ ...config, jsApiList });
  wx.ready(() => setTimeout(() => core.within(2000, call('checkJsApi', { jsApiList })).then(probed, probed), 0));
  if (!again) wx.error((r) => onConfigError(core.textOf(r))); // a later handler would get an old error
}
function trouble(kind, text) {
  const anew = () => configure(kind);
  current = ready = null;
  if (!renewed && /signature|permission/.test(kind)) return anew(renewed = true);
  wantsChooser = 0;
  tell('wechat', kind, { text }, anew);
}

// -- choose, preview, upload
const album = core.createAlbum(redraw);
const shown = mode === 'receipt' ? core.createAlbum(redraw) : album;
function choose() {
  wantsChooser = Date.now();
  const { again } = notices.wechat || {};
  if (!ready) return again ? again() : notices.wechat || tell('choose', 'moment');
  wantsChooser = 0;
  tell('choose');
  tell('lost');
  call('chooseImage', { count: 9, sizeType: [$('original').checked ? 'original' : 'compressed'], sourceType: ['album', 'camera'] }).then((r) => {
    renewed = false;
    core.localIdList(r.localIds).forEach((localId) => preview(album.add({ localId })));
  }, (e) => {
    const text = core.textOf(e);
    const kind = core.troubleOf(text);
    if (!kind) tell('choose', 'choose_failed', { text });
    else if (kind !== 'cancel') trouble(kind, text, wantsChooser = Date.now());
  });
}
// Full-size data is large: a small copy is kept.
function shrink(img) {
  const canvas = document.createElement('canvas');
  canvas.width = 240;
  canvas.height = 240 * img.naturalHeight / img.naturalWidth;
  canvas.getContext('2d').drawImage(img, 0, 0, canvas.width, canvas.height);
  img.onload = null;
  canvas.toBlob((blob) => { img.src = URL.createObjectURL(blob); }, 'image/jpeg');
}
let previews = Promise.resolve(); // one at a time: a lost answer blocks all later ones
function preview(p) {
  const { img, localId } = frame(p);
  function byData() {
    img.onerror = () => img.removeAttribute('src'); // the neutral tile stays
    img.onerror();
    previews = previews.then(() => core.within(settings.preview_wait_ms, call('getLocalImgData', { localId }))).then((r) => {
      img.onload = () => shrink(img);
      if (r.localData) img.src = core.previewSource(r.localData);
    }).catch(() => {});
  }
  // iOS shows no local id, and a desktop browser has never heard of them
  if (window.__wxjs_is_wkwebview || /iPhone|iPad|iPod/.test(navigator.userAgent) || settings.demo) return byData();
  img.onerror = byData;
  img.src = localId;
}
const uploader = core.createUploader({
  album,
  guard: (work) => core.within(settings.upload_watchdog_ms, work),
  pause: core.createPause(120, 120), // old Android drops a call made right after choosing
  // without progress tips some Androids never answer
  upload: ({ localId }) => call('uploadImage', { localId, isShowProgressTips: 1 }).then((r) => r.serverId || Promise.reject('no serverId')),
  keep: (id) => memory.keep(id, about()) || tell('storage', 'no_storage'),
  halted: (kind, text) => (kind === 'cancel' ? tell('row', kind) : trouble(kind, text)),
});
let network;
function upload(pictures) {
  tell('row', pictures.length || album.of('uploading').length ? '' : 'nothing');
  call('getNetworkType').then((r) => { network = r.networkType; }).then(redraw, redraw);
  uploader.start(pictures);
}

// -- submit, receipts
const sender = core.createSender({
  album, memory, pause: retries(), batch: settings.ids_per_submission,
  post: (ids, extra) => ask('/uploadImgData', core.submissionBody(ids, extra)),
  renew: () => ask('/uploadImgDemo'),
  waiting: ({ kind, body } = {}) => tell('send', kind && (kind === 'pass' ? kind : 'later'), body && { text: body.msg }, sender.run),
  accepted() {
    if (notices.found) tell('found', 'found_sent', notices.found.values);
    watch();
  },
});
const watch = core.createWatcher({
  seen, ask: (id) => ask('/receipt/' + id), hidden: () => document.hidden, pause: core.createPause(settings.poll_first_ms, settings.poll_most_ms),
  open: () => memory.receipts().filter((r) => !r.settled).map((r) => r.id),
});
let view = ''; // instead of the receipt
function seen(id, a) {
  const gone = a.status === 404;
  const mine = id === settings.receipt;
  if (mine) view = gone ? 'no_receipt' : a.kind === 'ok' ? '' : 'unreachable';
  if (gone) memory.noteReceipt({ id, gone });
  if (a.kind === 'ok') {
    memory.noteReceipt(core.brief(a.body));
    if (mine && !shown.list.length) a.body.pictures.forEach((row) => shown.add({ state: 'submitted', serverId: row.media_id }));
    [album, shown].forEach((x) => core.applyReceipt(x, a.body));
  }
  redraw();
}

// -- who, where, what
const most = settings.text_length_max;
const FIELDS = Object.keys(most); // team, contributor, note
let spot = null;
function about() {
  const fields = { ...spot };
  FIELDS.forEach((f) => { fields[f] = core.glyphs($(f).value).slice(0, most[f]).join(''); });
  return fields;
}

// -- drawing
function frame(p) {
  if (p.li) return p;
  const li = add($('imgs'), 'li');
  li.dataset.picture = p.key;
  return Object.assign(p, { li, img: add(li, 'img'), face: add(li, 'div') });
}
function drawPicture(p) {
  const { li, img, face } = frame(p);
  const name = img.alt = say('picture', { n: p.key });
  const home = $(p.serverId ? 'uploadImgs' : 'imgs');
  if (li.parentNode !== home) home.appendChild(li);
  li.dataset.state = p.state;
  refill(face, [[p.state, p.text, album.retriable(p), album.removable(p)]], ([state, text, retriable, removable]) => {
    add(face, 'span', 'state', say(state));
    if (mode === 'receipt') return add(face, 'span', 'code', name + ' ' + text);
    if (retriable) add(face, 'button', 'again', say('again'), () => {
      if (!p.localId) return sender.submit([p]);
      memory.forget([p.serverId]);
      upload([p]);
    });
    if (removable) add(face, 'button', 'remove', '×', () => {
      memory.forget([p.serverId]);
      URL.revokeObjectURL(img.src);
      li.remove();
      album.remove(p);
    }).setAttribute('aria-label', say('remove') + ': ' + name);
  });
}
const counted = (n) => core.STATES.filter((s) => n[s]).map((s) => say(s) + ' ' + n[s]).join(' · ');
function drawPictures(n) {
  const stage = shown.primary() === 'uploadImage' && !n.uploading && !n.chosen ? 'failed' : core.STATES.find((s) => n[s]);
  const word = view || (stage ? 'all_' + stage : mode === 'work' && 'welcome');
  if (word) write('advice', say(word, { n: n.failed || n.all }));
  shown.list.forEach(drawPicture);
  $('bar').hidden = !stage;
  $('bar').value = (n.uploaded / 3 + n.submitted / 1.5 + n.saved) / (n.all || 1);
  const slow = /^(2g|3g|edge)$/i.test(network) ? ' · ' + say('slow', { network }) : '';
  write('counts', stage ? counted(n) + slow : mode === 'work' ? say('hint') : '');
  ['upload', 'refused', 'box'].forEach((why) => {
    const failed = album.of('failed', why);
    notices[why] = failed.length && { word: why + '_failed', values: { n: failed.length, text: failed[0].text } };
  });
}
function drawWork(n) {
  const left = album.list.filter((p) => /chosen|uploading/.test(p.state) || p.why === 'upload').length;
  const primary = album.primary();
  write('chooseImage', say('choose'));
  write('uploadImage', say(n.uploading ? 'uploading' : left && !n.chosen ? 'again' : 'upload', { n: left }));
  write('postData', say(album.sending() ? 'sending' : 'submit', { n: n.uploaded }));
  ['chooseImage', 'uploadImage', 'postData'].forEach((id) => { $(id).className = id === primary ? 'primary' : ''; });
  FIELDS.forEach((f) => {
    const length = core.glyphs($(f).value).length;
    write(f + 'Label', say(f) + ' ' + length + '/' + most[f] + (length > most[f] ? ' ✂' : ''));
  });
  write('position', spot ? say('position_drop') + ' ' + Object.values(spot) : say('position_add'));
  if (memory.read('chosen') !== left) memory.write('chosen', left);
}
function drawReceipt(r) {
  const li = add($('receipts'), 'li');
  const a = add(li, 'a', 'code');
  a.href = '/receipt/' + r.id;
  a.textContent = a.href;
  add(li, 'span', 'hint', say('receipt') + ' · ' + new Date(r.when || r.at).toLocaleString(lang) + ' · ' + counted(r));
  add(li, 'button', '', say('copy'), () => copy(a));
}
let drawing;
function redraw() {
  drawing = drawing || Promise.resolve().then(() => {
    drawing = null;
    const n = shown.counts();
    if (mode !== 'outside') drawPictures(n);
    if (mode === 'work') drawWork(n);
    refill($('receipts'), memory.receipts().filter((r) => mode === 'work' || r.id === settings.receipt), drawReceipt);
    refill($('notices'), Object.values(notices).filter(Boolean), drawNotice);
  });
}
function copy(el) {
  getSelection().selectAllChildren(el);
  tell('copy', document.execCommand('copy') ? 'copied' : 'copy_failed');
}

// -- start
if (mode === 'outside') {
  $('advice').dataset.word = place;
  $('qr').src = '/qr.svg?url=' + encodeURIComponent(here);
  $('qr').alt = $('address').textContent = here;
  $('copy').onclick = () => copy($('address'));
} else {
  const { fresh, expired } = memory.unsent();
  tell('expired', expired && 'expired', { n: expired });
  tell('found', fresh.length && 'found', { n: fresh.length });
  sender.submit(fresh.map((e) => album.add({ state: 'uploaded', serverId: e.id, about: e.about })));
}
if (mode === 'receipt') {
  $('uploadImgs').className = 'card rows';
  memory.noteReceipt({ id: settings.receipt, settled: false });
}
if (mode === 'work') {
  const kept = memory.read('about') || {};
  kept.team = new URLSearchParams(location.search).get('team') || kept.team;
  $('original').checked = !kept.compressed;
  FIELDS.forEach((f) => { $(f).value = kept[f] || ''; });
  $('about').oninput = () => {
    FIELDS.forEach((f) => { kept[f] = $(f).value; });
    kept.compressed = !$('original').checked;
    memory.write('about', kept);
    redraw();
  };
  $('position').onclick = () => {
    tell('position', spot ? '' : 'position_busy');
    if (spot) spot = null;
    else core.within(20000, call('getLocation', { type: 'wgs84' })).then(({ latitude, longitude }) => {
      spot = { latitude, longitude };
      tell('position');
    }).catch(() => tell('position', 'position_failed'));
  };
  $('chooseImage').onclick = choose;
  $('uploadImage').onclick = () => upload(album.list.filter((p) => p.state === 'chosen' || p.why === 'upload'));
  $('postData').onclick = () => {
    const waiting = album.of('uploaded');
    tell('submit', waiting.length ? '' : 'nothing');
    sender.submit(waiting, about());
  };
  const n = memory.read('chosen');
  tell('lost', n && 'lost', { n });
  if (place !== 'micromessenger') tell('place', place);
  loadWx();
  // back from the browser's own cache: WeChat has forgotten this page
  window.addEventListener('pageshow', (e) => { if (e.persisted && wxHere()) configure('back'); });
}
function wake() {
  if (document.hidden || mode === 'outside') return;
  pause.wake();
  sender.run();
  watch();
}
window.addEventListener('online', wake);
document.addEventListener('visibilitychange', wake);
document.body.className = mode;
wake();
speak();
})();
