// The page's hands and eyes: elements, `wx`, fetch. What to do is decided in core.js, how it is said in words.js.
(function () {
'use strict';
const core = window.TuboxCore;
const words = window.TuboxWords;
const $ = (id) => document.getElementById(id);
const settings = core.parse($('page-settings').textContent, {});
const times = Object.assign({
  upload_watchdog_ms: 90000, script_wait_ms: 15000, config_wait_ms: 8000, preview_wait_ms: 8000,
  poll_first_ms: 1000, poll_most_ms: 15000, retry_first_ms: 2000, retry_most_ms: 60000,
}, settings);
let storage = null;
try { storage = window.localStorage; } catch (e) { /* forbidden: memory only */ }
const memory = core.createMemory(storage, Date.now);
const agent = navigator.userAgent;
const place = settings.demo ? 'demo' : core.whereAmI(agent);
const nap = () => core.createNap(setTimeout, clearTimeout);
const show = (el, yes) => { el.hidden = !yes; };
const write = (el, text) => { if (el.textContent !== text) el.textContent = text; };
function make(tag, name, text) {
  const el = document.createElement(tag);
  if (name) el.className = name;
  if (tag === 'button') el.type = 'button';
  if (text) el.textContent = text;
  return el;
}

// ---- words ----
let lang = /^zh/i.test(memory.read('lang', settings.lang || navigator.language)) ? 0 : 1;
function say(word, values) {
  return words[word][lang].replace(/\{(\w+)\}/g, (m, k) => (values && values[k] !== undefined ? values[k] : '')).replace(/（）| ?\(\)/, '');
}
const timeOf = (t) => new Date(t).toLocaleString(lang ? 'en' : 'zh-CN', { dateStyle: 'short', timeStyle: 'short' });
function speak() {
  document.documentElement.lang = lang ? 'en' : 'zh-CN';
  document.title = say('title');
  document.querySelectorAll('[data-word]').forEach((el) => write(el, say(el.dataset.word)));
  write($('language'), say('other_language'));
  $('language').lang = lang ? 'zh-CN' : 'en';
  $('qr').alt = say('qr');
  redraw();
}
$('language').onclick = () => {
  lang = 1 - lang;
  memory.write('lang', lang ? 'en' : 'zh-CN');
  speak();
};

// ---- notices: one sentence a slot, each saying what to do ----
const notices = {};
function tell(slot, tone, word, values, again) {
  if (word) notices[slot] = { tone, word, values, again };
  else delete notices[slot];
  redraw();
}
function drawNotices() {
  const box = $('notices');
  Array.from(box.children).forEach((p) => { if (!notices[p.dataset.slot]) p.remove(); });
  Object.keys(notices).forEach((slot) => {
    const n = notices[slot];
    let p = Array.from(box.children).find((x) => x.dataset.slot === slot);
    const text = say(n.word, n.values);
    if (p && p.dataset.text === text) return;
    if (!p) p = box.appendChild(make('p'));
    p.className = 'notice ' + n.tone;
    Object.assign(p.dataset, { slot, text, notice: n.word });
    p.textContent = text;
    if (n.again) p.appendChild(make('button', 'quiet', say('retry_now'))).onclick = () => notices[slot].again();
  });
}

// ---- the box ----
async function ask(path, options) {
  const stop = window.AbortController ? new AbortController() : { abort() {} };
  const t = setTimeout(() => stop.abort(), 30000);
  const headers = Object.assign({ Accept: 'application/json', 'Accept-Language': lang ? 'en' : 'zh-CN' }, options && options.headers);
  let reply = { status: 0, text: '' };
  try {
    const r = await fetch(path, Object.assign({ credentials: 'same-origin', cache: 'no-store', signal: stop.signal }, options, { headers }));
    reply = { status: r.status, text: await r.text(), retryAfter: r.headers.get('Retry-After') };
  } catch (e) { /* no network: status 0 */ }
  clearTimeout(t);
  return core.readAnswer(reply);
}
const askReceipt = (code) => ask('/receipt/' + encodeURIComponent(code));

// ---- WeChat: script, config, calls ----
function call(name, args, limit) {
  return new Promise((done, fail) => {
    if (limit) setTimeout(() => fail(new Error('timeout')), limit);
    window.wx[name](Object.assign({ success: done, fail, cancel: () => fail(new Error('cancel')) }, args));
  });
}
const wxHere = () => window.wx && typeof window.wx.config === 'function';
function tryScript(url) {
  return new Promise((done) => {
    const s = make('script');
    const end = (yes) => { clearInterval(look); clearTimeout(t); done(yes); };
    const look = setInterval(() => wxHere() && end(true), 50); // `wx` may appear late
    const t = setTimeout(() => end(false), times.script_wait_ms);
    s.onerror = () => end(false);
    s.src = url;
    document.head.appendChild(s);
  });
}
const configNap = nap();
async function loadScript() {
  for (let n = 0; !wxHere(); n++) {
    for (const url of settings.jssdk_urls || []) if (await tryScript(url)) break;
    if (wxHere()) break;
    tell('wechat', 'bad', 'script_missing', {}, configNap.wake);
    await configNap.sleep(core.growingGap(n, times.retry_first_ms, times.retry_most_ms));
  }
  tell('wechat');
}

let ready = false;
let turn = 0; // the newest configuration; older ones fall silent
let refreshed = false; // a refused signature is asked anew once, then it is said
let wantChoose = 0;
let configured = 0;
let onConfigError = null;
async function askConfig(mine) {
  const path = '/jssdk-config?url=' + encodeURIComponent(core.addressOf(location.href));
  for (let n = 0; mine === turn; n++) {
    const a = await ask(path);
    if (mine !== turn) break;
    if (a.kind === 'ok') return a.body;
    if (a.status === 403) tell('wechat', 'bad', 'wrong_address');
    else tell('wechat', 'wait', a.kind === 'busy' ? 'getting_permission' : 'config_unreachable');
    await configNap.sleep(Math.max(a.after, core.growingGap(n, times.retry_first_ms, times.poll_most_ms)));
  }
  return null;
}
// Ready is called after a failed config too, at once when there was an earlier config, and the error handler may never be
// called: so an own flag, an own timer, and a harmless call as a probe. An answer that comes late still counts.
function handOver(config, mine) {
  const again = configured++ > 0;
  let failed = false;
  const open = () => mine === turn && !failed;
  setTimeout(() => { if (open() && !ready) tell('wechat', 'bad', 'wechat_silent', {}, anew); }, times.config_wait_ms);
  onConfigError = (text) => {
    if (!open()) return;
    failed = true;
    trouble(core.troubleOf(text) || 'signature', text);
  };
  const good = () => setTimeout(() => { if (open()) becomeReady(); }, again ? 400 : 30);
  window.wx.config({
    debug: false, appId: config.appId, timestamp: config.timestamp, nonceStr: config.nonceStr, signature: config.signature,
    jsApiList: ['checkJsApi', 'chooseImage', 'uploadImage', 'getLocalImgData', 'getNetworkType', 'getLocation'],
  });
  window.wx.ready(() => setTimeout(() => call('checkJsApi', { jsApiList: ['chooseImage'] }, 2000).then(good, good), 0));
  if (!again) window.wx.error((r) => onConfigError(core.textOf(r) || 'config:fail'));
}
function becomeReady() {
  ready = true;
  tell('wechat');
  if (Date.now() - wantChoose < 15000) choose();
  uploader.run(); // goes on with what a refused signature had stopped
}
async function configure(fresh) {
  const mine = ++turn;
  ready = false;
  const config = (!fresh && core.usableConfig(core.parse($('jssdk-config').textContent, null), location.href)) || await askConfig(mine);
  if (config && mine === turn) handOver(config, mine);
}
function anew() {
  refreshed = false;
  tell('wechat');
  configure(true);
}
// A refusal is asked anew once, silently; then it is said.
function trouble(kind, text) {
  ready = false;
  if (/signature|permission/.test(kind) && !refreshed) {
    refreshed = true;
    return configure(true);
  }
  wantChoose = 0;
  tell('wechat', 'bad', kind, { text }, anew);
}

// ---- choose, preview, upload ----
const album = core.createAlbum(redraw);
const tiles = {};
const isWk = window.__wxjs_is_wkwebview || /iPhone|iPad|iPod/.test(agent);
function choose() {
  if (!ready) {
    wantChoose = Date.now();
    if (!notices.wechat) tell('choose', 'wait', 'moment');
    else if (notices.wechat.again) notices.wechat.again();
    return;
  }
  wantChoose = 0;
  tell('choose');
  tell('lost');
  call('chooseImage', { count: 9, sizeType: [size], sourceType: ['album', 'camera'] }).then((r) => {
    refreshed = false;
    core.localIdList(r.localIds).forEach((localId) => preview(album.add({ localId })));
  }, (e) => {
    const text = core.textOf(e);
    const kind = core.troubleOf(text);
    if (core.isCancel(e)) return;
    if (kind && !refreshed) wantChoose = Date.now();
    if (kind) trouble(kind, text);
    else tell('choose', 'bad', 'choose_failed', { text });
  });
}
// Full-size data is large; the page keeps a small copy only.
function shrink(img) {
  const side = Math.min(img.naturalWidth, img.naturalHeight);
  if (side < 400) return;
  const canvas = make('canvas');
  canvas.width = canvas.height = 240;
  canvas.getContext('2d').drawImage(img, (img.naturalWidth - side) / 2, (img.naturalHeight - side) / 2, side, side, 0, 0, 240, 240);
  canvas.toBlob((blob) => { if (blob) img.src = URL.createObjectURL(blob); }, 'image/jpeg', 0.8);
}
let previews = Promise.resolve(); // one at a time
function preview(picture) {
  const img = tileOf(picture).img;
  function byData() {
    img.onerror = () => img.removeAttribute('src');
    img.removeAttribute('src');
    previews = previews.then(() => call('getLocalImgData', { localId: picture.localId }, times.preview_wait_ms)).then((r) => {
      const src = core.previewSource(r.localData);
      if (!src) return;
      img.onload = () => { img.onload = null; shrink(img); };
      img.src = src;
    }).catch(() => {}); // the neutral tile stays
  }
  if (isWk || place === 'demo') return byData(); // a desktop browser knows no weixin: addresses
  img.onerror = byData;
  img.src = picture.localId;
}
const uploader = core.createUploader({
  album, limit: times.upload_watchdog_ms, timer: setTimeout, clear: clearTimeout, changed: redraw,
  pause: () => new Promise((done) => setTimeout(done, 120)), // old Android drops a call made right after choosing
  upload: (picture) => call('uploadImage', { localId: picture.localId, isShowProgressTips: 1 }).then((r) => {
    if (!r.serverId) throw new Error('no serverId');
    return r.serverId;
  }),
  keep: (id) => { if (!memory.keep(id, about())) tell('storage', 'wait', 'no_storage'); },
  halted: (kind, text) => { if (kind === 'cancel') tell('upload', 'wait', 'upload_canceled'); else trouble(kind, text); },
});
function upload(pictures) {
  if (!pictures.length) return album.of('uploading').length || tell('upload', 'wait', 'nothing_chosen');
  tell('upload');
  call('getNetworkType', {}, 3000).then((r) => {
    slow = core.isSlow(r.networkType || r.subtype) ? r.networkType || r.subtype : '';
    redraw();
  }).catch(() => {});
  uploader.start(pictures);
}
let slow = '';

// ---- submit, receipts ----
const sender = core.createSender({
  album, memory, nap: nap(), first: times.retry_first_ms, most: times.retry_most_ms, batch: settings.ids_per_submission || 100, changed: redraw,
  post: (ids, extra) => ask('/uploadImgData', {
    method: 'POST', headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body: core.submissionBody(ids, extra),
  }),
  renew: () => ask('/uploadImgDemo', { headers: { Accept: 'text/html' } }),
  waiting: (a) => tell('send', 'bad', a && ({ pass: 'pass', busy: 'later_busy' }[a.kind] || 'later'), { text: a && a.msg }, () => sender.wake()),
  accepted() {
    if (notices.found) tell('found', 'good', 'found_sent', notices.found.values);
    watcher.start();
  },
});
function submit() {
  const waiting = album.of('uploaded');
  tell('submit', 'wait', waiting.length ? '' : 'nothing_uploaded');
  sender.submit(waiting, about());
}
function again(picture) {
  if (!picture.localId) return sender.submit([picture]);
  if (picture.serverId) memory.forget([picture.serverId]);
  upload([picture]);
}
let viewed = null; // the receipt that the receipt view shows
let viewTrouble = 'view_opening';
const openReceipts = () => memory.receipts().filter((r) => !r.settled).map((r) => r.id)
  .concat(settings.receipt && !(viewed && viewed.settled) && viewTrouble !== 'view_missing' ? settings.receipt : []);
const watcher = core.createWatcher({
  ask: askReceipt, nap: nap(), first: times.poll_first_ms, most: times.poll_most_ms, hidden: () => document.hidden, open: openReceipts, seen,
});
function seen(code, a) {
  const known = memory.receipts().find((r) => r.id === code);
  const gone = a.status === 404;
  if (code === settings.receipt) {
    viewTrouble = a.kind === 'ok' ? '' : gone ? 'view_missing' : 'view_unreachable';
    if (a.kind === 'ok') viewed = a.body;
  }
  if (a.kind === 'ok') core.applyReceipt(album, a.body);
  if (known && (gone || a.kind === 'ok')) {
    const n = core.tally(a.body);
    memory.noteReceipt(gone ? { id: code, settled: true } : { id: code, settled: !!a.body.settled, count: n.waiting + n.saved + n.failed, saved: n.saved, failed: n.failed });
  }
  redraw();
}

// ---- who, where, what ----
let size = memory.read('size', 'original');
let spot = null;
let spotText = 'position_none';
const FIELDS = ['team', 'contributor', 'note'];
const mostOf = (f) => (settings.text_length_max || {})[f] || 64;
function about() {
  const fields = {};
  FIELDS.forEach((f) => { fields[f] = core.cut($(f).value, mostOf(f)); });
  return Object.assign(fields, spot);
}
function prepareAbout() {
  const kept = Object.assign({}, memory.read('about', {}));
  kept.team = new URLSearchParams(location.search).get('team') || kept.team;
  FIELDS.forEach((f) => {
    $(f).value = kept[f] || '';
    $(f).oninput = () => { memory.write('about', { team: $('team').value, contributor: $('contributor').value, note: $('note').value }); redraw(); };
  });
  [$('sizeOriginal'), $('sizeCompressed')].forEach((r) => {
    r.checked = r.value === size;
    r.onchange = () => { size = r.value; memory.write('size', size); };
  });
  $('addPosition').onclick = () => {
    spotText = 'position_busy';
    redraw();
    call('getLocation', { type: 'wgs84' }, 20000).then((r) => {
      spot = { latitude: Number(r.latitude).toFixed(6), longitude: Number(r.longitude).toFixed(6) };
    }, () => { spotText = 'position_failed'; }).then(redraw);
  };
  $('dropPosition').onclick = () => { spot = null; spotText = 'position_none'; redraw(); };
}
function drawAbout() {
  FIELDS.forEach((f) => {
    const n = core.glyphs($(f).value.trim());
    const over = n > mostOf(f);
    write($(f + 'Count'), say(over ? 'count_over' : 'count', { n, max: mostOf(f) }));
    $(f + 'Count').classList.toggle('over', over);
    $(f).setAttribute('aria-invalid', over);
  });
  write($('aboutBrief'), [$('team').value, $('contributor').value].filter(Boolean).join(' · '));
  write($('position'), spot ? say('position_is', { place: spot.latitude + ', ' + spot.longitude }) : say(spotText));
  show($('addPosition'), !spot);
  show($('dropPosition'), !!spot);
}

// ---- drawing ----
function tileOf(picture) {
  if (tiles[picture.key]) return tiles[picture.key];
  const li = make('li', 'tile');
  const tile = { li, img: make('img'), again: make('button', 'again'), state: make('span', 'state'), remove: make('button', 'remove', '×') };
  li.dataset.picture = picture.key;
  [tile.img, tile.state].forEach((el) => li.appendChild(el));
  tile.again.onclick = () => again(picture);
  tile.remove.onclick = () => {
    if (picture.serverId) memory.forget([picture.serverId]);
    if (/^blob:/.test(tile.img.src)) URL.revokeObjectURL(tile.img.src);
    li.remove();
    delete tiles[picture.key];
    album.remove(picture);
  };
  tiles[picture.key] = tile;
  return tile;
}
const put = (li, el, yes) => { if (yes && !el.parentNode) li.appendChild(el); else if (!yes) el.remove(); };
function drawTile(picture) {
  const tile = tileOf(picture);
  const n = { n: picture.key };
  const home = $(picture.serverId ? 'uploadImgs' : 'imgs');
  if (tile.li.parentNode !== home) {
    home.insertBefore(tile.li, Array.from(home.children).find((x) => Number(x.dataset.picture) > picture.key) || null);
  }
  tile.li.dataset.state = picture.state;
  tile.img.alt = say('picture', n);
  tile.remove.setAttribute('aria-label', say('remove', n));
  tile.again.setAttribute('aria-label', say('again_n', n));
  write(tile.again, say('again'));
  write(tile.state, say('state_' + picture.state));
  put(tile.li, tile.again, album.retriable(picture));
  put(tile.li, tile.remove, album.removable(picture));
}
function adviceOf(n) {
  if (n.uploading) return 'advice_uploading';
  if (album.list.some((p) => p.sending)) return 'advice_sending';
  if (n.chosen) return 'advice_chosen';
  if (n.uploaded) return 'advice_uploaded';
  if (n.submitted) return 'advice_submitted';
  return n.failed ? 'advice_failed' : 'advice_saved';
}
const countsText = (n, states) => states.filter((s) => n[s]).map((s) => say('count_' + s, { n: n[s] })).join(' · ');
function drawFailures() {
  [['upload', 'upload', 'upload_failed'], ['refused', 'refused', 'refused'], ['box', 'box', 'box_failed']].forEach((x) => {
    const failed = album.of('failed', x[0]);
    if (failed.length) {
      const text = failed[0].text === 'watchdog' ? say('watchdog') : failed[0].text;
      notices[x[1]] = { tone: 'bad', word: x[2], values: { n: failed.length, text } };
    } else if (notices[x[1]] && notices[x[1]].word === x[2]) delete notices[x[1]];
  });
}
let notedChosen = 0;
function drawWork() {
  const n = album.counts();
  album.list.forEach(drawTile);
  show($('empty'), !n.all);
  show($('overall'), n.all);
  show($('chosenPart'), $('imgs').children.length);
  show($('uploadedPart'), $('uploadImgs').children.length);
  if (n.all) write($('advice'), say(adviceOf(n), { n: n.failed || n.all }));
  $('bar').max = n.all * 3 || 1;
  $('bar').value = n.uploaded + n.submitted * 2 + n.saved * 3;
  write($('counts'), countsText(n, ['chosen', 'uploading', 'uploaded', 'submitted', 'saved', 'failed']));
  show($('network'), slow);
  write($('network'), slow ? say('network_slow', { type: slow.toUpperCase() }) : '');
  const failed = album.of('failed', 'upload').length;
  const sending = album.list.some((p) => p.sending || p.send);
  const todo = n.chosen + failed;
  write($('chooseImage'), say(n.all ? 'choose_more' : 'choose'));
  write($('uploadImage'), n.uploading ? say('upload_busy', { n: n.uploading + album.of('chosen').filter((p) => p.want).length })
    : say(n.chosen ? 'upload_n' : failed ? 'upload_again' : 'upload', { n: todo }));
  write($('postData'), say(sending ? 'submit_busy' : n.uploaded ? 'submit_n' : 'submit', { n: n.uploaded }));
  const primary = album.primary();
  ['chooseImage', 'uploadImage', 'postData'].forEach((id) => $(id).classList.toggle('primary', id === primary));
  if (todo + n.uploading !== notedChosen) memory.write('chosen', notedChosen = todo + n.uploading);
}
function drawReceipts() {
  const all = memory.receipts();
  const text = JSON.stringify([all, lang]);
  show($('receiptsPart'), all.length);
  if ($('receipts').dataset.text === text) return;
  $('receipts').dataset.text = text;
  $('receipts').textContent = '';
  all.forEach((r) => {
    const li = $('receipts').appendChild(make('li'));
    const a = li.appendChild(make('a', 'code', r.id));
    a.href = '/receipt/' + encodeURIComponent(r.id);
    li.appendChild(make('span', 'hint', say('receipt_row', { when: timeOf(r.at), n: r.count })));
    if (r.saved !== undefined) li.appendChild(make('span', '', say('receipt_state', { saved: r.saved, failed: r.failed, waiting: r.count - r.saved - r.failed })));
    li.appendChild(make('button', 'quiet', say('copy_link'))).onclick = () => copy(a.href);
  });
}
function drawView() {
  const n = core.tally(viewed || {});
  const all = n.waiting + n.saved + n.failed;
  write($('receiptAdvice'), say(viewTrouble || (n.waiting ? 'view_waiting' : n.failed ? 'view_failed' : 'view_saved'), { n: n.failed || all }));
  write($('receiptCode'), settings.receipt);
  $('receiptBar').max = all || 1;
  $('receiptBar').value = n.saved;
  write($('receiptCounts'), countsText({ submitted: n.waiting, saved: n.saved, failed: n.failed }, ['submitted', 'saved', 'failed']));
  write($('receiptTime'), viewed && viewed.submitted_at ? say('submitted_at', { when: timeOf(viewed.submitted_at) }) : '');
  const list = $('receiptPictures');
  ((viewed && viewed.pictures) || []).forEach((p, i) => {
    const li = list.children[i] || list.appendChild(make('li'));
    const is = core.STATES[p.state] || 'submitted';
    Object.assign(li.dataset, { picture: i + 1, state: is });
    const state = is === 'submitted' ? 'wait_state' : 'state_' + is;
    const rows = [say('picture', { n: i + 1 }), say(state), p.reason || (p.sha256 ? 'SHA-256 ' + p.sha256 : p.media_id)];
    rows.forEach((text, k) => write(li.children[k] || li.appendChild(make('span', ['', 'state', 'code'][k])), text));
  });
}
let drawing = false;
function redraw() {
  if (drawing) return;
  drawing = true;
  Promise.resolve().then(() => {
    drawing = false;
    drawFailures();
    drawNotices();
    if (settings.receipt) return drawView();
    drawWork();
    drawAbout();
    drawReceipts();
  });
}

// ---- start ----
function copy(text) {
  const area = document.body.appendChild(make('textarea', 'unseen'));
  area.value = text;
  area.select();
  area.setSelectionRange(0, text.length);
  let done = false;
  try { done = document.execCommand('copy'); } catch (e) { /* said below */ }
  area.remove();
  tell('copy', done ? 'good' : 'bad', done ? 'copied' : 'copy_failed');
}
function sendFound() {
  const found = memory.unsent();
  const lost = !settings.receipt && memory.read('chosen', 0);
  if (lost) tell('lost', 'wait', 'lost', { n: lost });
  if (found.expired) tell('expired', 'bad', 'expired', { n: found.expired });
  if (!found.fresh.length) return;
  tell('found', 'wait', 'found', { n: found.fresh.length });
  sender.submit(found.fresh.map((e) => album.add({ state: 'uploaded', serverId: e.id, about: e.about })));
}
function startOutside() {
  show($('outside'), true);
  const url = core.addressOf(location.href);
  $('outsideReason').dataset.word = place === 'wxwork' ? 'wxwork' : 'wechat_only';
  $('qr').onerror = () => show($('qr'), false);
  $('qr').src = '/qr.svg?url=' + encodeURIComponent(url);
  $('ownAddress').textContent = url;
  $('copyAddress').onclick = () => copy(url);
}
function startWork() {
  show($('work'), true);
  prepareAbout();
  $('chooseImage').onclick = choose;
  $('uploadImage').onclick = () => upload(album.of('chosen').concat(album.of('failed', 'upload')).sort((a, b) => a.key - b.key));
  $('postData').onclick = submit;
  if (place !== 'wechat') tell('place', 'wait', place);
  loadScript().then(() => configure(false));
  // back from the browser's own cache: WeChat has forgotten this page
  window.addEventListener('pageshow', (e) => { if (e.persisted && wxHere()) anew(); });
}
function startView() {
  show($('receiptView'), true);
  $('copyReceipt').onclick = () => copy(core.addressOf(location.href));
  askReceipt(settings.receipt).then((a) => { seen(settings.receipt, a); watcher.start(); });
}
function wake() {
  if (document.hidden) return;
  configNap.wake();
  sender.wake();
  watcher.start();
}
show($('opening'), false);
show($('language'), true);
if (!settings.receipt && /wxwork|outside/.test(place)) startOutside();
else {
  if (settings.receipt) startView();
  else startWork();
  sendFound();
  watcher.start();
  window.addEventListener('online', wake);
  document.addEventListener('visibilitychange', wake);
}
speak();
})();
