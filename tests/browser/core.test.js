'use strict';
// The page's pure parts, without a browser; and what old webviews could not read.
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const vm = require('node:vm');
const zlib = require('node:zlib');
const { test } = require('node:test');

const ASSETS = path.join(__dirname, '..', '..', 'assets', 'page');
const read = (name) => fs.readFileSync(path.join(ASSETS, name), 'utf8');
const core = require(path.join(ASSETS, 'core.js'));

const now = () => 1000 * 3600e3;
function storage(fields) {
  const kept = new Map(Object.entries(fields || {}));
  return { kept, getItem: (k) => (kept.has(k) ? kept.get(k) : null), setItem: (k, v) => kept.set(k, v) };
}
const answer = (status, body, retryAfter) => core.readAnswer(status, typeof body === 'string' ? body : JSON.stringify(body), retryAfter);
// A timer that notes how long it was asked to wait, and does not wait.
const noting = (gaps) => (f, ms) => { gaps.push(Math.round(ms)); Promise.resolve().then(f); };

test('enterprise WeChat is asked before WeChat, since it names both', () => {
  assert.equal(core.whereAmI('… wxwork/4.1.0 MicroMessenger/7.0.1'), 'wxwork');
  assert.equal(core.whereAmI('… MicroMessenger/8.0 wechatdevtools/1.06'), 'wechatdevtools');
  assert.equal(core.whereAmI('… MicroMessenger/8.0.42'), 'micromessenger');
  assert.equal(core.whereAmI('Mozilla/5.0 Chrome/120'), 'outside');
});

test('a signature counts for its own address only', () => {
  const config = JSON.stringify({ signature: 's', url: 'https://a.example/p?x=1' });
  assert.equal(core.usableConfig(config, 'https://a.example/p?x=1').signature, 's');
  assert.ok(!core.usableConfig(config, 'https://a.example/p?x=1&from=timeline'));
  assert.ok(!core.usableConfig('{}', 'https://a.example/p?x=1'));
  assert.ok(!core.usableConfig('', 'https://a.example/'));
});

test('local ids: list, JSON text, one bare id, rubbish', () => {
  assert.deepEqual(core.localIdList(['a', 'b']), ['a', 'b']);
  assert.deepEqual(core.localIdList('["weixin://resourceid/1"]'), ['weixin://resourceid/1']);
  assert.deepEqual(core.localIdList('wxLocalResource://1'), ['wxLocalResource://1']);
  assert.deepEqual(core.localIdList(undefined), []);
  assert.deepEqual(core.localIdList([null, '', 7]), []);
});

test('previews: jgp, line breaks, missing prefix', () => {
  assert.equal(core.previewSource('data:image/jgp;base64,/9j/AAAA'), 'data:image/jpeg;base64,/9j/AAAA');
  assert.equal(core.previewSource('/9j/AA\r\nBB\nCC'), 'data:image/jpeg;base64,/9j/AABBCC');
});

test('why WeChat refuses', () => {
  assert.equal(core.troubleOf('config:fail,Error: 系统错误,错误码:63002,invalid signature [x]'), 'signature');
  assert.equal(core.troubleOf('chooseImage:fail, the permission value is offline verifying'), 'signature');
  assert.equal(core.troubleOf('config:fail,Error: 系统错误,错误码:40048,invalid url domain'), 'domain');
  assert.equal(core.troubleOf('config:ok noPermissionJsApi:["chooseImage"]'), 'permission');
  assert.equal(core.troubleOf('config:fail'), 'signature');
  assert.equal(core.troubleOf('uploadImage:permission denied'), 'permission');
  assert.equal(core.troubleOf('chooseImage:function not exist'), 'too_old');
  assert.equal(core.troubleOf('require subscribe'), 'subscribe');
  assert.equal(core.troubleOf('uploadImage:no permission to execute'), 'permission');
  assert.equal(core.troubleOf('uploadImage:fail:network error'), undefined);
  assert.equal(core.troubleOf('chooseImage:fail cancel'), 'cancel');
  assert.equal(core.troubleOf(core.textOf({ errMsg: 'chooseImage:cancel' })), 'cancel');
});

test('the box\'s answers', () => {
  assert.equal(answer(200, { rc: 0, receipt: 'r' }).kind, 'ok');
  assert.deepEqual([answer(200, { rc: 1, msg: 'no' }).kind, answer(200, { rc: 1, msg: 'no' }).body.msg], ['refused', 'no']);
  assert.equal(answer(200, { rc: 1, code: 'no-pass' }).kind, 'pass');
  assert.equal(answer(503, { rc: 1, msg: 'full' }).kind, 'busy');
  assert.equal(answer(503, '<h1>proxy</h1>').kind, 'unreachable');
  assert.deepEqual([answer(429, '', '7').kind, answer(429, '', '7').after], ['busy', 7000]);
  assert.equal(answer(429, '', 'Wed, 21 Oct 2026 07:28:00 GMT').after, 0);
  assert.equal(answer(413, '').kind, 'refused');
  assert.equal(answer(200, '<html>log in</html>').kind, 'unreachable');
  assert.equal(answer(0, '').kind, 'unreachable');
  assert.equal(answer(404, { rc: 1 }).kind, 'refused');
});

test('a submission is a form with JSON in it, and empty fields stay away', () => {
  const form = new URLSearchParams(core.submissionBody(['a-1', 'b_2'], { team: '北 & 1', note: '', latitude: undefined }));
  assert.deepEqual(JSON.parse(form.get('data')), { imgIds: ['a-1', 'b_2'] });
  assert.equal(form.get('team'), '北 & 1');
  assert.deepEqual(Array.from(form.keys()), ['data', 'team']);
});

test('lengths are counted in characters', () => {
  assert.deepEqual(core.glyphs('  队😀a '), ['队', '😀', 'a']);
});

test('pauses grow to their limit, keep to what the box asked for, and can be cut short', async () => {
  const gaps = [];
  const pause = core.createPause(1000, 15000, noting(gaps), () => {});
  pause.wake();
  for (const least of [0, 0, 0, 20000, 0, 0, 0, 0]) await pause.rest(least);
  assert.deepEqual(gaps, [1000, 1600, 2560, 20000, 6554, 10486, 15000, 15000]);
  const cleared = [];
  const long = core.createPause(1000, 15000, () => 'the timer', (t) => cleared.push(t));
  const rest = long.rest();
  long.wake();
  await rest;
  assert.deepEqual(cleared, ['the timer']);
});

test('the outbox keeps ids across a reload, drops what is older than 72 h, forgets what was taken', () => {
  const place = storage();
  let time = now();
  const memory = core.createMemory(() => place, () => time);
  assert.equal(memory.keep('id1', { team: 'n' }), true);
  time += 71 * 3600e3;
  memory.keep('id2', {});
  const later = core.createMemory(() => place, () => time + 2 * 3600e3);
  const { fresh, expired } = later.unsent();
  assert.deepEqual([fresh.map((e) => e.id), expired], [['id2'], 1]);
  later.forget(['id2']);
  assert.deepEqual(later.unsent(), { fresh: [], expired: 0 });
});

test('storage that is missing, throwing, full or spoilt is worked around', () => {
  const throwing = { getItem() { throw new Error('no'); }, setItem() { throw new Error('no'); } };
  const full = Object.assign(storage({ 'tubox.outbox': '[{"id":"old","at":3599999999}]' }), { setItem() { throw new Error('full'); } });
  for (const place of [null, throwing, full]) {
    const memory = core.createMemory(() => place, now);
    assert.equal(memory.keep('id1', {}), false);
    assert.ok(memory.unsent().fresh.some((e) => e.id === 'id1'));
    memory.forget(['id1']);
    assert.ok(!memory.unsent().fresh.some((e) => e.id === 'id1'));
  }
  for (const text of ['{', '"x"', '{"id":1}', '[null, 3]']) {
    assert.deepEqual(core.createMemory(() => storage({ 'tubox.outbox': text }), now).unsent(), { fresh: [], expired: 0 });
  }
});

test('receipts: newest first, updated in place, twelve at most, 30 days, or until the box has them no more', () => {
  let time = now();
  const place = storage();
  const memory = core.createMemory(() => place, () => time);
  for (let i = 0; i < 15; i++) { time += 1000; memory.noteReceipt({ id: 'r' + i, count: 1 }); }
  memory.noteReceipt({ id: 'r9', saved: 1, settled: true });
  const all = memory.receipts();
  assert.deepEqual([all.length, all[0].id, all.find((r) => r.id === 'r9').settled], [12, 'r14', true]);
  memory.noteReceipt({ id: 'r14', gone: true });
  assert.deepEqual([memory.receipts().length, memory.receipts()[0].id], [11, 'r13']);
  time += 31 * 24 * 3600e3;
  assert.deepEqual(memory.receipts(), []);
});

test('states only go where the table lets them', () => {
  const album = core.createAlbum(() => {});
  const p = album.add({ localId: 'l' });
  assert.ok(!album.move(p, 'saved'));
  assert.ok(album.move(p, 'uploading'));
  assert.ok(!album.removable(p));
  assert.ok(album.move(p, 'uploaded', { serverId: 's' }));
  assert.ok(album.removable(p));
  assert.ok(album.move(p, 'submitted'));
  assert.ok(!album.move(p, 'chosen'));
  assert.ok(album.move(p, 'saved'));
  assert.ok(!album.move(p, 'failed'));
  album.remove(p);
  assert.ok(!album.move(p, 'failed'));
});

test('the highlighted button', () => {
  const album = core.createAlbum(() => {});
  assert.equal(album.primary(), 'chooseImage');
  const [a, b] = [album.add({}), album.add({})];
  assert.equal(album.primary(), 'uploadImage');
  album.move(a, 'uploading');
  album.move(a, 'uploaded');
  album.move(b, 'uploading');
  assert.equal(album.primary(), 'uploadImage');
  album.move(b, 'failed', { why: 'upload', tries: 1 });
  assert.equal(album.primary(), 'uploadImage', 'a first failure is tried again');
  b.tries = 2;
  assert.equal(album.primary(), 'postData', 'a second one lets the others go first');
  album.move(a, 'submitted');
  assert.equal(album.primary(), 'uploadImage');
  album.remove(b);
  assert.equal(album.primary(), 'chooseImage');
});

function uploading(outcomes, options) {
  const album = core.createAlbum(() => {});
  const log = { calls: [], kept: [], halted: [], most: 0 };
  let busy = 0;
  const uploader = core.createUploader(Object.assign({
    album, guard: (work) => core.within(1000, work), pause: core.createPause(0, 0),
    async upload(p) {
      log.calls.push(p.key);
      log.most = Math.max(log.most, ++busy);
      await null;
      busy -= 1;
      const outcome = (outcomes[p.key] || []).shift() || 'ok';
      if (outcome !== 'ok') throw outcome;
      return 'server' + p.key;
    },
    keep: (id) => log.kept.push(id), halted: (kind) => log.halted.push(kind),
  }, options));
  return { album, log, uploader };
}

test('uploads: one at a time, in order, a failure stops nobody', async () => {
  const { album, log, uploader } = uploading({ 2: [{ errMsg: 'uploadImage:fail' }] });
  const all = [1, 2, 3].map((n) => album.add({ localId: 'l' + n }));
  await Promise.all([uploader.start(all), uploader.start(all)]);
  assert.deepEqual([log.calls, log.most, log.kept], [[1, 2, 3], 1, ['server1', 'server3']]);
  assert.equal(all[1].state, 'failed');
  await uploader.start([all[1]]);
  assert.equal(all[1].state, 'uploaded');
});

test('uploads: a lost permission or a cancel halts the row and puts the picture back', async () => {
  for (const [error, kind] of [['uploadImage:permission denied', 'permission'], ['uploadImage:cancel', 'cancel']]) {
    const { album, log, uploader } = uploading({ 1: [{ errMsg: error }] });
    const all = [1, 2].map(() => album.add({ localId: 'l' }));
    await uploader.start(all);
    assert.deepEqual([all.map((p) => p.state), log.halted, log.calls], [['chosen', 'chosen'], [kind], [1]]);
  }
});

test('uploads: an id that comes late is kept, a second id of the same picture is not', async () => {
  const late = [];
  const { album, log, uploader } = uploading({}, { guard: (work) => core.within(30, work), upload: () => new Promise((done) => late.push(done)) });
  const p = album.add({ localId: 'l' });
  await uploader.start([p]);
  assert.deepEqual([p.state, p.text], ['failed', 'timeout 超时']);
  const again = uploader.start([p]);
  await new Promise((r) => setTimeout(r, 5));
  late[0]('first');
  await new Promise((r) => setTimeout(r, 0));
  assert.deepEqual([p.state, p.serverId], ['uploaded', 'first']);
  late[1]('second');
  await again;
  assert.deepEqual([p.serverId, log.kept], ['first', ['first']]);
});

function sending(answers, batch) {
  const album = core.createAlbum(() => {});
  const place = storage();
  const memory = core.createMemory(() => place, now);
  const log = { posts: [], renewed: 0, gaps: [] };
  const sender = core.createSender({
    album, memory, batch: batch || 100, waiting() {}, accepted() {}, pause: core.createPause(100, 400, noting(log.gaps), () => {}),
    renew: async () => { log.renewed += 1; },
    post: async (ids) => { log.posts.push(ids.join('')); return typeof answers === 'function' ? answers(ids) : answers.shift(); },
  });
  const add = (ids) => ids.split('').map((id) => { memory.keep(id, {}); return album.add({ state: 'uploaded', serverId: id, about: {} }); });
  return { album, memory, log, sender, add };
}
const taken = () => answer(200, { rc: 0, receipt: 'r' });

test('submitting: keeps on with growing gaps until the box has taken note', async () => {
  const h = sending([answer(0, ''), answer(503, { rc: 1 }), answer(429, '', '3'), answer(502, 'x'), taken()]);
  const all = h.add('ab');
  const first = h.sender.submit(all, {});
  await Promise.all([first, h.sender.submit(all, {})]);
  assert.deepEqual(h.log.posts, ['ab', 'ab', 'ab', 'ab', 'ab']);
  assert.deepEqual(h.log.gaps, [100, 160, 3000, 400]);
  assert.deepEqual([all[0].state, h.memory.receipts()[0].id, h.memory.unsent().fresh], ['submitted', 'r', []]);
});

test('submitting: a refusal is halved until the culprit is alone; it stays in the outbox', async () => {
  const h = sending((ids) => (ids.indexOf('e') < 0 ? taken() : answer(200, { rc: 1, msg: 'bad e' })));
  const all = h.add('abcdefgh');
  await h.sender.submit(all, {});
  assert.deepEqual(all.map((p) => p.state[0]).join(''), 'ssssfsss');
  assert.equal(all[4].text, 'bad e');
  assert.deepEqual(h.memory.unsent().fresh.map((e) => e.id), ['e']);
  assert.ok(h.log.posts.length <= 9, h.log.posts.join(' '));
});

test('submitting: too big is halved as well; a batch has its limit', async () => {
  const h = sending((ids) => (ids.length > 2 ? answer(413, '') : taken()), 4);
  await h.sender.submit(h.add('abcde'), {});
  assert.deepEqual(h.log.posts, ['abcd', 'ab', 'cd', 'e']);
});

test('submitting: a pass is renewed once, then the gaps begin', async () => {
  const pass = () => answer(200, { rc: 1, code: 'no-pass' });
  const h = sending([pass(), pass(), pass(), taken()]);
  await h.sender.submit(h.add('a'), {});
  assert.deepEqual([h.log.renewed, h.log.gaps.length], [2, 1]);
});

test('submitting: found ids keep their own names; different ones go apart', async () => {
  const h = sending(() => taken());
  const all = h.add('abc');
  all[1].about = { team: 'south' };
  await h.sender.submit(all);
  assert.deepEqual(h.log.posts, ['ac', 'b']);
});

test('receipts: pictures follow them, and are watched until settled', async () => {
  const album = core.createAlbum(() => {});
  const p = ['a', 'b'].map((id) => album.add({ state: 'submitted', serverId: id }));
  const rounds = [['waiting', 'waiting'], ['saved', 'waiting'], ['saved', 'failed']];
  let open = true;
  const watch = core.createWatcher({
    pause: core.createPause(1, 2, noting([]), () => {}), hidden: () => false, open: () => (open ? ['r'] : []),
    ask: async () => {
      const states = rounds.shift();
      return { pictures: states.map((state, i) => ({ media_id: 'ab'[i], state, reason: state === 'failed' ? 'gone' : undefined })), settled: !rounds.length };
    },
    seen: (code, receipt) => { core.applyReceipt(album, receipt); open = !receipt.settled; },
  });
  await watch();
  assert.deepEqual(p.map((x) => [x.state, x.text]), [['saved', ''], ['failed', 'gone']]);
  const short = core.brief({ receipt: 'r', submitted_at: 'then', settled: false, pictures: [{ state: 'saved' }, { state: 'odd' }] });
  assert.deepEqual(short, { id: 'r', when: 'then', settled: false, submitted: 1, saved: 1, failed: 0 });
});

test('the watchdog counts ticks, not the clock', async () => {
  const ticks = [];
  const timer = (f) => ticks.push(f);
  const guarded = core.within(90000, new Promise(() => {}), timer);
  for (let i = 0; i < 29; i++) ticks[i]();
  assert.equal(ticks.length, 30, 'a phone that slept for hours has ticked once');
  ticks[29]();
  await assert.rejects(guarded, (e) => /timeout/.test(e));
});

// ---- the files themselves ----
function words() {
  const room = {};
  vm.runInNewContext(read('words.js') + ';result = TuboxWords', room);
  return room.result;
}

test('every word has both languages with the same blanks, and is used', () => {
  const used = read('page.js') + read('page.html');
  const built = /^(chosen|uploading|uploaded|submitted|saved|failed)$|^all_|_failed$/; // names put together in page.js
  for (const [key, pair] of Object.entries(words())) {
    assert.equal(pair.length, 2, key);
    const blanks = pair.map((text) => (text.match(/\{\w+\}/g) || []).sort().join());
    assert.equal(blanks[0], blanks[1], key);
    assert.match(pair[0], /[\u4e00-\u9fff]|English/, key);
    const named = new RegExp(`['"]${key}['"]|\\b${key}:`).test(used) || built.test(key) || /^(domain|permission|subscribe|too_old|signature|cancel|wechatdevtools|demo|wxwork|outside|silent|no_receipt|team|contributor|note)$/.test(key);
    assert.ok(named, key + ' is not used');
  }
});

test('every placeholder stands exactly once, and the page has nothing inline', () => {
  const html = read('page.html');
  for (const slot of ['lang', 'style_url', 'words_url', 'core_url', 'script_url', 'jssdk_config', 'settings']) {
    assert.equal(html.split(`{{${slot}}}`).length, 2, slot);
  }
  assert.doesNotMatch(html, / style=| on\w+=|<style|javascript:/);
  assert.doesNotMatch(html.replace(/<script type="application\/json"[^>]*>\{\{\w+\}\}<\/script>/g, '').replace(/<script defer src="[^"]*"><\/script>/g, ''), /<script/);
});

test('the whole page stays small on its way', () => {
  const all = ['page.html', 'style.css', 'words.js', 'core.js', 'page.js'].map((name) => zlib.gzipSync(read(name), { level: 9 }).length);
  assert.ok(all.reduce((a, b) => a + b) < 24 * 1024, `compressed: ${all}`);
});

test('nothing that an old webview cannot read', () => {
  for (const name of ['words.js', 'core.js', 'page.js']) {
    const code = read(name).replace(/\/\/.*|'(?:[^'\\\n]|\\.)*'/g, "''");
    assert.doesNotMatch(code, /\?\.[a-z[(]|\?\?|catch \{|\.(replaceAll|flat|flatMap|at|matchAll|replaceChildren|allSettled|fromEntries)\(|\d_\d|\bstatic\b|#\w+ ?[=(;]|import\(|\balert\(|\beval\(|pushState|innerHTML|\bimport /, name);
    assert.doesNotMatch(code, /setAttribute\('style'|\.cssText/, name);
  }
  assert.doesNotMatch(read('style.css').replace(/\/\*.*?\*\//gs, ''), /aspect-ratio|[^-]\bgap:|inset:|clamp\(|min\(|:is\(|:where\(|:has\(|@layer|&/);
  new vm.Script(read('page.js'));
});
