// What the page knows without a screen. Time, storage, network and WeChat are handed in; it must not know the DOM, `wx` or words.
var TuboxCore = (function () {
'use strict';

// -- texts from outside
function parse(text) {
  try { return JSON.parse(text); } catch (e) { return null; }
}
// Enterprise WeChat and the developer tools name MicroMessenger too.
const whereAmI = (agent) => ['wxwork', 'wechatdevtools', 'micromessenger'].find((name) => agent.toLowerCase().includes(name)) || 'outside';
// WeChat caches pages and adds parameters to shared links; a signature is for one address.
function usableConfig(text, here) {
  const config = parse(text) || {};
  return config.signature && config.url === here && config;
}
// Android gives the list as JSON text.
function localIdList(raw) {
  const list = typeof raw === 'string' ? parse(raw) || [raw] : raw || [];
  return list.filter((id) => id && typeof id === 'string');
}
// iOS says "image/jgp", Android gives bare base64 in lines. Browsers look at the bytes, not at the type.
const previewSource = (raw) => 'data:image/jpeg;base64,' + raw.replace(/\s/g, '').replace(/^.*,/, '');
const textOf = (result) => String((result && (result.errMsg || result.message)) || result).slice(0, 160);
// Why WeChat refuses this page; anything else is the failure of one call.
const TROUBLES = {
  cancel: /cancel/i, // ":cancel" or ":fail cancel"
  domain: /invalid url domain|40048/i,
  subscribe: /require subscribe/i,
  too_old: /not exist|not support|not a function/i,
  permission: /no ?permission|permission denied|access denied|not authorized/i,
  signature: /63002|invalid signature|offline verifying|^config:/i,
};
const troubleOf = (text) => Object.keys(TROUBLES).find((kind) => TROUBLES[kind].test(text));
// People count characters, not UTF-16 units.
const glyphs = (text) => Array.from(text.trim());

// -- talking to the box
function submissionBody(ids, about) {
  const fields = { data: JSON.stringify({ imgIds: ids }), ...about };
  return Object.keys(fields).filter((k) => fields[k]).map((k) => k + '=' + encodeURIComponent(fields[k])).join('&');
}
// The log-in page of a hotel's network is no answer of the box.
function readAnswer(status, text, retryAfter) {
  const body = parse(text) || {};
  const ours = body.rc >= 0;
  let kind = 'unreachable';
  if (status === 429 || (ours && status === 503)) kind = 'busy';
  else if (body.code === 'no-pass') kind = 'pass';
  else if (status === 413 || (ours && status < 500)) kind = body.rc === 0 ? 'ok' : 'refused';
  return { kind, status, body, after: Math.min(Number(retryAfter) || 0, 600) * 1000 };
}

// -- time
// Waits between tries grow, and can be cut short.
function createPause(first, most, timer = setTimeout, clear = clearTimeout) {
  const pause = {
    tries: 0,
    wake() {},
    rest: (least) => new Promise((done) => {
      const t = timer(() => pause.wake(), Math.max(least || 0, Math.min(first * Math.pow(1.6, pause.tries++), most)));
      pause.wake = () => { clear(t); done(); };
    }),
  };
  return pause;
}
// One run at a time; asking again wakes the one that rests.
function single(pause, work) {
  let running = false;
  return async () => {
    if (running) return pause.wake();
    running = true;
    await work();
    running = false;
  };
}
// Counts ticks, not the clock: a phone that slept has not been waiting.
function within(ms, work, timer = setTimeout) {
  return new Promise((done, fail) => {
    let ticks = 0;
    const tick = () => (ticks++ < 30 ? timer(tick, ms / 30) : fail('timeout 超时'));
    tick();
    work.then(done, fail).then(() => { ticks = 30; });
  });
}

// -- what the phone remembers
// What storage does not take (it may be missing, full, throwing) lives as long as the page.
function createMemory(storage, now) {
  const mirror = {};
  function read(key) {
    if (key in mirror) return mirror[key];
    try { return parse(storage().getItem('tubox.' + key)); } catch (e) { return null; }
  }
  function write(key, value) {
    delete mirror[key];
    try { storage().setItem('tubox.' + key, JSON.stringify(value)); } catch (e) { mirror[key] = value; }
    return !(key in mirror);
  }
  // Read anew each time: another tab may have written.
  const list = (key, hours) => [].concat(read(key)).filter((x) => x && x.id && now() - x.at < hours * 3600000);
  const others = (key, ids) => list(key, Infinity).filter((x) => !ids.includes(x.id));
  return {
    read, write,
    keep: (id, about) => write('outbox', others('outbox', [id]).concat({ id, at: now(), about })),
    forget: (ids) => write('outbox', others('outbox', ids)),
    unsent() {
      const fresh = list('outbox', 72); // then WeChat deletes an upload
      const expired = others('outbox', fresh.map((e) => e.id)).length;
      if (expired) write('outbox', fresh);
      return { fresh, expired };
    },
    receipts: () => list('receipts', 720),
    noteReceipt(receipt) {
      const old = list('receipts', 720).find((r) => r.id === receipt.id);
      const all = others('receipts', [receipt.id]).concat({ at: now(), ...old, ...receipt });
      write('receipts', all.filter((r) => !r.gone).sort((a, b) => b.at - a.at).slice(0, 12));
    },
  };
}

// -- the pictures
const NEXT = {
  uploading: 'chosen uploaded failed', chosen: 'uploading uploaded', uploaded: 'submitted failed', submitted: 'saved failed',
  failed: 'chosen uploaded submitted saved', saved: '',
};
const STATES = Object.keys(NEXT);
function createAlbum(changed) {
  const list = [];
  let last = 0;
  const of = (state, why) => list.filter((p) => p.state === state && (!why || p.why === why));
  const sending = () => list.some((p) => p.send);
  return {
    list, of, sending,
    add(fields) {
      const picture = { key: ++last, state: 'chosen', tries: 0, text: '', ...fields };
      list.push(picture);
      changed();
      return picture;
    },
    // A late callback must not turn a picture back: only the table's steps are taken.
    move(picture, state, fields) {
      if (!list.includes(picture) || !NEXT[picture.state].split(' ').includes(state)) return false;
      Object.assign(picture, { state, why: '', text: '', want: false, send: false }, fields);
      changed();
      return true;
    },
    removable: (p) => !p.send && /chosen|uploaded|failed/.test(p.state),
    // The phone still has the picture, or its id can be handed in again.
    retriable: (p) => p.state === 'failed' && (p.localId || p.why === 'refused'),
    remove(picture) {
      list.splice(list.indexOf(picture), 1);
      changed();
    },
    counts() {
      const n = { all: list.length };
      STATES.forEach((s) => { n[s] = of(s).length; });
      return n;
    },
    // The button that leads on. A picture that keeps failing must not bar the way of the others.
    primary() {
      const failed = of('failed', 'upload');
      if (of('uploading').length) return 'uploadImage';
      if (sending()) return 'postData';
      if (of('chosen').length || failed.some((p) => p.tries < 2)) return 'uploadImage';
      if (of('uploaded').length) return 'postData';
      return failed.length ? 'uploadImage' : 'chooseImage';
    },
  };
}

// -- loop 1: upload, one at a time in the chosen order
function createUploader(o) {
  function failed(picture, text) {
    const trouble = troubleOf(text);
    picture.tries += 1;
    if (!trouble) o.album.move(picture, 'failed', { why: 'upload', text });
    else o.album.move(picture, 'chosen', { want: true });
    if (trouble === 'cancel') o.album.list.forEach((p) => { p.want = false; });
    if (trouble) o.halted(trouble, text);
    return trouble;
  }
  const run = single(o.pause, async () => {
    for (;;) {
      const picture = o.album.of('chosen').find((p) => p.want);
      if (!picture) break;
      await o.pause.rest();
      if (!o.album.move(picture, 'uploading')) continue; // removed meanwhile
      const kept = o.upload(picture).then((id) => {
        // also after the time was up: a late id is as good as any
        if (picture.serverId || !o.album.list.includes(picture)) return;
        o.keep(id); // first of all: from here on it survives a crash
        o.album.move(picture, 'uploaded', { serverId: id });
      });
      const error = await o.guard(kept).catch(textOf);
      if (picture.state === 'uploading' && failed(picture, error)) break;
    }
  });
  return {
    run,
    start(pictures) {
      pictures.forEach((p) => {
        o.album.move(p, 'chosen', { serverId: '' });
        p.want = p.state === 'chosen';
      });
      return run();
    },
  };
}

// -- loop 2: submit, until the box has taken note
function createSender(o) {
  // Those with the same name, team and note; after a refusal half as many, until the culprit is alone.
  function group() {
    const all = o.album.of('uploaded').filter((p) => p.send);
    const same = all.filter((p) => JSON.stringify(p.about) === JSON.stringify(all[0].about));
    return same.slice(0, Math.min(o.batch, ...same.map((p) => p.most || o.batch)));
  }
  function settle(pictures, ids, { kind, body }) {
    if (kind === 'ok') {
      if (body.receipt) o.memory.noteReceipt({ id: body.receipt, submitted: ids.length });
      o.memory.forget(ids);
      pictures.forEach((p) => o.album.move(p, 'submitted'));
      o.accepted();
    } else if (ids.length > 1) pictures.forEach((p) => { p.most = Math.ceil(ids.length / 2); });
    else o.album.move(pictures[0], 'failed', { why: 'refused', text: body.msg }); // only the person drops its id
  }
  const run = single(o.pause, async () => {
    for (let pictures = group(); pictures.length; pictures = group()) {
      const ids = pictures.map((p) => p.serverId);
      const post = () => o.post(ids, pictures[0].about);
      let answer = await post();
      if (answer.kind === 'pass') { // run out: a visit to the page gives another
        await o.renew();
        answer = await post();
      }
      if (/ok|refused/.test(answer.kind)) {
        o.waiting();
        o.pause.tries = 0;
        settle(pictures, ids, answer);
      } else {
        o.waiting(answer);
        await o.pause.rest(answer.after);
      }
    }
  });
  return {
    run,
    submit(pictures, about) {
      pictures.filter((p) => !p.send).forEach((p) => {
        o.album.move(p, 'uploaded');
        p.send = p.state === 'uploaded';
        p.about = about || p.about;
      });
      return run();
    },
  };
}

// -- loop 3: watch receipts until all is settled
const stateOf = (row) => ({ saved: 'saved', failed: 'failed' }[row.state] || 'submitted');
function createWatcher(o) {
  const run = single(o.pause, async () => {
    while (o.open().length) {
      if (!o.hidden()) for (const id of o.open()) o.seen(id, await o.ask(id));
      await o.pause.rest(o.hidden() ? 1e9 : 0); // nobody looks: asks nothing until woken
    }
  });
  return () => run(o.pause.tries = 0);
}
// A receipt in short, as the phone remembers it.
function brief(receipt) {
  const short = { id: receipt.receipt, when: receipt.submitted_at, settled: receipt.settled, submitted: 0, saved: 0, failed: 0 };
  receipt.pictures.forEach((row) => { short[stateOf(row)] += 1; });
  return short;
}
// What a receipt says about the pictures of an album.
function applyReceipt(album, receipt) {
  receipt.pictures.forEach((row) => album.list.filter((p) => p.serverId === row.media_id && p.why !== 'refused').forEach((p) => {
    album.move(p, stateOf(row), { why: 'box', text: row.reason || (row.sha256 ? 'SHA-256 ' + row.sha256 : '') });
  }));
}

return {
  STATES, parse, whereAmI, usableConfig, localIdList, previewSource, textOf, troubleOf, glyphs, submissionBody, readAnswer, createPause,
  within, createMemory, createAlbum, createUploader, createSender, createWatcher, brief, applyReceipt,
};
})();
if (typeof module === 'object') module.exports = TuboxCore;
