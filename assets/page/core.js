// What the page knows without a screen: texts from WeChat and the box, the pictures' states, what is remembered, and the three
// loops (upload, submit, watch receipts). Time, network and WeChat are handed in; it must not know the DOM, `wx` or words.
(function (root, make) {
  if (typeof module === 'object' && module.exports) module.exports = make();
  else root.TuboxCore = make();
})(this, function () {
'use strict';
const HOUR = 3600000;
const ID_LIFE = 72 * HOUR; // WeChat deletes an upload after three days
const RECEIPT_LIFE = 720 * HOUR;

// ---- texts from outside ----
function parse(text, otherwise) {
  try { return JSON.parse(text); } catch (e) { return otherwise; }
}
function whereAmI(agent) {
  if (/wxwork/i.test(agent)) return 'wxwork'; // names MicroMessenger too, so it is asked first
  if (/wechatdevtools/i.test(agent)) return 'devtools';
  return /MicroMessenger/i.test(agent) ? 'wechat' : 'outside';
}
const addressOf = (href) => href.split('#')[0];
// WeChat adds parameters to shared links, and caches pages: a signature counts only for exactly this address.
function usableConfig(config, href) {
  return config && config.signature && config.url === addressOf(href) ? config : null;
}
function localIdList(raw) {
  const list = typeof raw === 'string' ? parse(raw, [raw]) : raw;
  return Array.isArray(list) ? list.filter((id) => typeof id === 'string' && id) : [];
}
const KINDS = [['/9j/', 'jpeg'], ['iVBOR', 'png'], ['R0lG', 'gif'], ['UklG', 'webp']];
// iOS writes "image/jgp", Android bare base64 with line breaks, some builds nothing at all.
function previewSource(raw) {
  const text = String(raw || '').replace(/\s/g, '');
  const body = text.slice(text.indexOf(',') + 1);
  if (!body) return '';
  const kind = KINDS.find((k) => body.startsWith(k[0]));
  return 'data:image/' + (kind ? kind[1] : 'jpeg') + ';base64,' + body;
}
const textOf = (result) => String((result && (result.errMsg || result.message)) || result || '').slice(0, 160);
const isCancel = (result) => /cancel/i.test(textOf(result));
// Why WeChat refuses to work for this page; null: an ordinary failure of one call.
function troubleOf(text) {
  if (/invalid url domain|40048/i.test(text)) return 'domain';
  if (/require subscribe/i.test(text)) return 'subscribe';
  if (/not exist|not support|not a function/i.test(text)) return 'too_old';
  if (/63002|invalid signature|offline verifying/i.test(text)) return 'signature';
  if (/permission|access denied|not authorized/i.test(text)) return 'permission';
  return /^config:/.test(text) ? 'signature' : null;
}
const isSlow = (type) => /^(2g|3g|edge)$/i.test(type || '');
// People count characters, not UTF-16 units.
const glyphs = (text) => Array.from(text).length;
const cut = (text, most) => Array.from(text.trim()).slice(0, most).join('');

// ---- talking to the box ----
function submissionBody(ids, about) {
  const fields = Object.assign({ data: JSON.stringify({ imgIds: ids }) }, about);
  return Object.keys(fields).filter((k) => fields[k])
    .map((k) => k + '=' + encodeURIComponent(fields[k])).join('&');
}
// status 0: no answer. A page of a hotel's Wi-Fi login is no answer of the box either.
function readAnswer(reply) {
  const body = parse(reply.text, null);
  const ours = body && typeof body.rc === 'number';
  const after = Math.min(Number(reply.retryAfter) || 0, 600) * 1000;
  const msg = (ours && body.msg) || '';
  let kind = 'unreachable';
  if (reply.status === 429 || (reply.status === 503 && ours)) kind = 'busy';
  else if (reply.status === 413) kind = 'too_big';
  else if (ours && body.code === 'no-pass') kind = 'pass';
  else if (ours && reply.status < 500) kind = body.rc === 0 ? 'ok' : 'refused';
  return { kind, status: reply.status, body: body || {}, msg, after };
}
const growingGap = (n, first, most) => Math.min(first * Math.pow(1.6, n), most);

// ---- time ----
function createNap(timer, clear) {
  let ring = null;
  return {
    sleep: (ms) => new Promise((done) => {
      const end = () => { clear(t); ring = null; done(); };
      const t = timer(end, Math.min(ms, 2147483647));
      ring = end;
    }),
    wake: () => ring && ring(),
  };
}
// Counts ticks, not the clock: a phone that slept has not been waiting.
function watchdog(work, ms, timer, clear) {
  return new Promise((done, fail) => {
    let ticks = 0;
    let t = timer(tick, ms / 30);
    function tick() {
      if (++ticks >= 30) fail(new Error('watchdog'));
      else t = timer(tick, ms / 30);
    }
    work.then((v) => { clear(t); done(v); }, (e) => { clear(t); fail(e); });
  });
}

// ---- what the phone remembers ----
// Storage may be missing, full or throwing; what it did not take is kept in memory as long as the page lives.
function createMemory(storage, now) {
  const mirror = {};
  function read(key, otherwise) {
    if (key in mirror) return mirror[key];
    try { return parse(storage.getItem('tubox.' + key), null) || otherwise; } catch (e) { return otherwise; }
  }
  function write(key, value) {
    try {
      storage.setItem('tubox.' + key, JSON.stringify(value));
      delete mirror[key];
      return true;
    } catch (e) { mirror[key] = value; return false; }
  }
  const list = (key) => { const l = read(key, []); return Array.isArray(l) ? l.filter((x) => x && x.id) : []; };
  return {
    read, write,
    // Each call reads again first: another tab may have written.
    keep: (id, about) => write('outbox', list('outbox').filter((e) => e.id !== id).concat({ id, at: now(), about })),
    forget: (ids) => write('outbox', list('outbox').filter((e) => ids.indexOf(e.id) < 0)),
    unsent() {
      const all = list('outbox');
      const fresh = all.filter((e) => now() - e.at < ID_LIFE);
      if (fresh.length < all.length) write('outbox', fresh);
      return { fresh, expired: all.length - fresh.length };
    },
    receipts: () => list('receipts').filter((r) => now() - r.at < RECEIPT_LIFE),
    noteReceipt(receipt) {
      const old = list('receipts').find((r) => r.id === receipt.id);
      const rest = list('receipts').filter((r) => r !== old && r.id !== receipt.id);
      write('receipts', [Object.assign({ at: now() }, old, receipt)].concat(rest).sort((a, b) => b.at - a.at).slice(0, 12));
    },
  };
}

// ---- the pictures ----
const NEXT = {
  chosen: 'uploading uploaded', uploading: 'chosen uploaded failed', uploaded: 'submitted failed',
  submitted: 'saved failed', failed: 'chosen uploaded submitted saved', saved: '',
};
function createAlbum(changed) {
  const list = [];
  let last = 0;
  const of = (state, why) => list.filter((p) => p.state === state && (!why || p.why === why));
  return {
    list, of,
    add(fields) {
      const picture = Object.assign({ key: ++last, state: 'chosen', tries: 0 }, fields);
      list.push(picture);
      changed();
      return picture;
    },
    // A late callback must not turn a picture back: only the table's steps are taken.
    move(picture, state, fields) {
      if (list.indexOf(picture) < 0 || NEXT[picture.state].split(' ').indexOf(state) < 0) return false;
      Object.assign(picture, { state, why: '', text: '' }, fields);
      changed();
      return true;
    },
    removable: (p) => !p.sending && /chosen|uploaded|failed/.test(p.state),
    // After a failure: upload again where the phone still has the picture, else hand in its id again.
    retriable: (p) => p.state === 'failed' && !p.sending && !!(p.localId || (p.why === 'refused' && p.serverId)),
    remove(picture) {
      list.splice(list.indexOf(picture), 1);
      changed();
    },
    counts() {
      const n = { all: list.length };
      Object.keys(NEXT).forEach((s) => { n[s] = of(s).length; });
      return n;
    },
    // Which of the three buttons leads on. A picture that fails again and again must not bar the way of the others.
    primary() {
      const failed = of('failed', 'upload');
      if (of('uploading').length) return 'uploadImage';
      if (list.some((p) => p.send || p.sending)) return 'postData';
      if (of('chosen').length || failed.some((p) => p.tries < 2)) return 'uploadImage';
      if (of('uploaded').length) return 'postData';
      return failed.length ? 'uploadImage' : 'chooseImage';
    },
  };
}

// ---- loop 1: upload, strictly one at a time in the chosen order ----
// o: album, upload(picture) -> serverId, keep(id) , limit, timer, clear, pause(), changed, halted(kind, text)
function createUploader(o) {
  let running = false;
  // An id that comes after the watchdog gave up is as good as any, unless the picture has another by now.
  function arrived(picture, id) {
    if (picture.serverId || o.album.list.indexOf(picture) < 0) return;
    o.keep(id); // before anything else: from here on it survives a crash
    o.album.move(picture, 'uploaded', { serverId: id, want: false });
  }
  function failed(picture, error) {
    const text = textOf(error);
    const trouble = isCancel(error) ? 'cancel' : troubleOf(text);
    picture.tries += 1;
    if (!trouble) return o.album.move(picture, 'failed', { why: 'upload', text, want: false });
    o.album.move(picture, 'chosen');
    if (trouble === 'cancel') o.album.list.forEach((p) => { p.want = false; });
    o.halted(trouble, text);
    return trouble;
  }
  async function run() {
    if (running) return;
    running = true;
    let picture;
    while ((picture = o.album.of('chosen').find((p) => p.want))) {
      await o.pause();
      if (!o.album.move(picture, 'uploading')) continue; // removed meanwhile
      const current = picture;
      const work = o.upload(picture);
      const kept = work.then((id) => arrived(current, id));
      try { await watchdog(kept, o.limit, o.timer, o.clear); }
      catch (e) { if (current.state === 'uploading' && typeof failed(current, e) === 'string') break; }
    }
    running = false;
    o.changed();
  }
  return {
    start(pictures) {
      pictures.forEach((p) => {
        if (p.state === 'failed') o.album.move(p, 'chosen', { serverId: '' });
        p.want = p.state === 'chosen';
      });
      return run();
    },
    run,
  };
}

// ---- loop 2: submit; keeps on until the box has taken note ----
// o: album, memory, post(ids, about) -> answer, renew(), nap, first, most, batch, changed, waiting(answer or null), accepted(receipt, pictures)
function createSender(o) {
  let running = false;
  // One request holds pictures with the same name, team and note; after a refusal it is halved until the culprit is alone.
  function group() {
    const all = o.album.of('uploaded').filter((p) => p.send);
    const about = JSON.stringify(all.length && all[0].about);
    const same = all.filter((p) => JSON.stringify(p.about) === about);
    return same.slice(0, same.reduce((n, p) => Math.min(n, p.most || n), o.batch));
  }
  function settle(pictures, answer) {
    const ids = pictures.map((p) => p.serverId);
    if (answer.kind === 'ok') {
      const receipt = String(answer.body.receipt || '');
      if (receipt) o.memory.noteReceipt({ id: receipt, count: pictures.length });
      o.memory.forget(ids);
      pictures.forEach((p) => o.album.move(p, 'submitted', { receipt, send: false }));
      o.accepted(receipt, pictures);
    } else if (pictures.length > 1) {
      pictures.forEach((p) => { p.most = Math.ceil(pictures.length / 2); });
    } else { // the id stays in the outbox: only the person throws it away
      o.album.move(pictures[0], 'failed', { why: 'refused', text: answer.msg, send: false });
    }
  }
  async function run() {
    if (running) { o.nap.wake(); return; }
    running = true;
    let tries = 0;
    let renewed = false;
    for (let pictures = group(); pictures.length; pictures = group()) {
      pictures.forEach((p) => { p.sending = true; });
      o.changed();
      const ids = pictures.map((p) => p.serverId);
      let answer = await o.post(ids, pictures[0].about);
      if (answer.kind === 'pass' && !renewed) {
        renewed = true;
        await o.renew();
        answer = await o.post(ids, pictures[0].about);
      }
      pictures.forEach((p) => { p.sending = false; });
      if (/ok|refused|too_big/.test(answer.kind)) {
        tries = 0;
        renewed = false;
        settle(pictures, answer);
        o.waiting(null);
      } else {
        o.waiting(answer);
        o.changed();
        await o.nap.sleep(Math.max(answer.after, growingGap(tries++, o.first, o.most)));
        renewed = false;
      }
    }
    running = false;
    o.waiting(null);
    o.changed();
  }
  return {
    // about: what to send along; without it each picture's own, as it was remembered
    submit(pictures, about) {
      pictures.forEach((p) => {
        if (p.state === 'failed') o.album.move(p, 'uploaded');
        if (p.state !== 'uploaded' || p.sending) return;
        p.send = true;
        if (about) p.about = about;
      });
      return run();
    },
    wake: () => o.nap.wake(),
  };
}

// ---- loop 3: watch receipts until all is settled ----
const STATES = { waiting: 'submitted', saved: 'saved', failed: 'failed' };
function tally(receipt) {
  const n = { waiting: 0, saved: 0, failed: 0 };
  (receipt.pictures || []).forEach((p) => { n[p.state in n ? p.state : 'waiting'] += 1; });
  return n;
}
// o: ask(code) -> answer, nap, hidden(), open() -> codes, seen(code, answer), first, most
function createWatcher(o) {
  let running = false;
  let round = 0;
  async function run() {
    if (running) { o.nap.wake(); return; }
    running = true;
    while (o.open().length) {
      // a page that nobody sees asks nothing; becoming visible wakes it
      await o.nap.sleep(o.hidden() ? Infinity : growingGap(round++, o.first, o.most));
      if (o.hidden()) continue;
      for (const code of o.open()) o.seen(code, await o.ask(code));
    }
    running = false;
  }
  return { start() { round = 0; return run(); } };
}
// What one receipt says about the pictures on the page.
function applyReceipt(album, receipt) {
  (receipt.pictures || []).forEach((row) => {
    album.list.filter((p) => p.serverId === row.media_id && /submitted|failed/.test(p.state) && p.why !== 'refused')
      .forEach((p) => album.move(p, STATES[row.state], { why: row.state === 'failed' ? 'box' : '', text: row.reason || '' }));
  });
}

return {
  STATES, parse, whereAmI, addressOf, usableConfig, localIdList, previewSource, textOf, isCancel, troubleOf, isSlow, glyphs, cut,
  submissionBody, readAnswer, growingGap, createNap, watchdog, createMemory, createAlbum, createUploader, createSender,
  createWatcher, tally, applyReceipt,
};
});
