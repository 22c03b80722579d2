'use strict';
// The operator's page in Chromium: log-in, live status, a gallery of a thousand pictures, retry, zip, contact sheet, and how it
// looks and reads to everybody. SHOTS names a folder that gets screenshots.
const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { after, before, describe, it } = require('node:test');
const { newContext, watch } = require('./browser.js');
const { start, folder } = require('./start.js');

const AXE = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const DAY = '2026-11-20';
const MANY = 1000;
// Every fifth picture is the south's, with and without a position: a contact sheet of two hundred.
const teamOf = (n) => (n % 5 === 1 ? 'south' : n % 3 ? '北方队' : '');
const SOUTH = MANY / 5;
const PHONE = { width: 390, height: 844 };

// Some landscapes, as a phone would take them; every file is made unlike the others by bytes behind its end marker.
async function landscapes() {
  const context = await newContext({});
  const page = await context.newPage();
  const drawn = await page.evaluate(() => Array.from({ length: 24 }, (x, n) => {
    const canvas = document.createElement('canvas');
    const upright = n % 3 === 1;
    canvas.width = upright ? 480 : 640;
    canvas.height = upright ? 640 : 480;
    const { width: w, height: h } = canvas;
    const c = canvas.getContext('2d');
    const sky = c.createLinearGradient(0, 0, 0, h);
    sky.addColorStop(0, `hsl(${200 + n * 9 % 60},60%,${45 + n % 5 * 6}%)`);
    sky.addColorStop(1, `hsl(${30 + n * 7 % 30},70%,85%)`);
    c.fillStyle = sky;
    c.fillRect(0, 0, w, h);
    for (let k = 0; k < 4; k++) {
      c.fillStyle = `hsl(${90 + n * 13 % 80},${35 - k * 5}%,${48 - k * 10}%)`;
      c.beginPath();
      c.moveTo(0, h);
      for (let i = 0; i <= 12; i++) c.lineTo(w * i / 12, h * (0.45 + k * 0.12 + Math.sin(i * (1 + n % 4 * 0.3) + n + k * 2) * 0.08));
      c.lineTo(w, h);
      c.fill();
    }
    return canvas.toDataURL('image/jpeg', 0.8).split(',')[1];
  }));
  await context.close();
  return drawn.map((text) => Buffer.from(text, 'base64'));
}

// A day's folder as the album leaves it: pictures, manifest, hashes.
function writeDay(pictures, drawn) {
  const day = path.join(pictures, DAY);
  fs.mkdirSync(day, { recursive: true });
  const rows = ['file,media_id,sha256,bytes,content_type,width,height,submitted_at,saved_at,receipt,team,contributor,note,latitude,longitude,clock'];
  const sums = [];
  for (let n = 0; n < MANY; n++) {
    const upright = n % 24 % 3 === 1;
    const bytes = Buffer.concat([drawn[n % 24], Buffer.from(`picture ${n}`)]);
    const at = new Date(Date.UTC(2026, 10, 20, 8) + n * 20000).toISOString();
    const id = crypto.createHash('sha256').update('id' + n).digest('base64url');
    const file = `${at.replace(/[-:]/g, '').replace(/\.\d+/, '')}_${id}.jpg`;
    const sha256 = crypto.createHash('sha256').update(bytes).digest('hex');
    fs.writeFileSync(path.join(day, file), bytes);
    sums.push(`${sha256}  ${file}`);
    rows.push([file, id, sha256, bytes.length, 'image/jpeg', upright ? 480 : 640, upright ? 640 : 480, at, at, 'k7mq2xw4', teamOf(n), n % 5 ? '李雷' : 'Maria', n % 7 ? '' : "'=河边的第一座桥", n % 2 ? '' : '31.2304', n % 2 ? '' : '121.4737', ''].join(','));
  }
  fs.writeFileSync(path.join(day, 'manifest.csv'), rows.join('\n') + '\n');
  fs.writeFileSync(path.join(day, 'SHA256SUMS'), sums.join('\n') + '\n');
}

async function accessible(page, where) {
  await page.evaluate(AXE); // by the debugger, so that the page's policy stays as strict as it is
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  assert.deepEqual(found.violations.map((v) => `${where}: ${v.id}: ${v.nodes.map((n) => n.html + ' ' + n.failureSummary).join('; ')}`), []);
}
async function fits(page, where) {
  const sideways = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  assert.ok(sideways <= 0, `${where} scrolls sideways`);
  const small = await page.$$eval('button, a, input:not([type=hidden]), select, summary', (all) => all.filter((x) => x.offsetParent)
    .map((x) => [x.id || x.className || x.tagName, x.getBoundingClientRect()]).filter((x) => x[1].width < 44 || x[1].height < 44)
    .map((x) => `${x[0]} ${x[1].width}x${x[1].height}`));
  assert.deepEqual(small, [], where);
}

describe("the operator's page", { concurrency: 1 }, () => {
  let box;
  let token;
  let files;
  before(async () => {
    files = folder();
    box = await start();
    token = fs.readFileSync(path.join(box.data, 'admin_token'), 'utf8').trim();
    writeDay(path.join(box.data, 'pictures'), await landscapes());
  });
  after(async () => {
    await box.stop();
    fs.rmSync(files, { recursive: true });
  });

  // options: those of a context, and `hash` (default: the token), `allow` (console errors that belong to the case)
  async function admin(options, run) {
    const given = Object.assign({ hash: '#' + token, locale: 'en', path: '/admin/' }, options);
    const context = await newContext(Object.assign({ acceptDownloads: true, viewport: PHONE }, given));
    const page = await context.newPage();
    const faults = [];
    watch(page, faults, given.allow);
    page.on('request', (r) => { if (!r.url().startsWith(box.url + '/')) faults.push('foreign request: ' + r.url()); });
    try {
      await page.goto(box.url + given.path + given.hash);
      await run(page, context);
      assert.deepEqual(faults, []);
    } finally {
      await context.close();
    }
  }
  const operator = (name, options, run) => it(name, { timeout: 120000 }, () => admin(options, run));
  const go = (page, view) => page.click(`[data-view=${view}]`);
  const inside = (page) => page.waitForSelector('#views:not([hidden])');
  const shot = (page, name, options) => (process.env.SHOTS ? page.screenshot(Object.assign({ path: path.join(process.env.SHOTS, name + '.png') }, options)) : null);
  // The newest day is open from the start.
  async function openDay(page) {
    const day = `details[data-day="${DAY}"]`;
    await page.waitForSelector(day);
    if (!(await page.$eval(day, (x) => x.open || x.matches(':first-child')))) await page.click(`${day} > summary`);
    await page.waitForSelector(`${day} .tile`);
    return day;
  }
  const loaded = (page, n) => page.waitForFunction((k) => Array.from(document.querySelectorAll('.tile img')).filter((x) => x.naturalWidth > 0).length >= k, n);
  async function submit(fate, n, about) {
    const ids = [];
    for (let i = 0; i < n; i++) ids.push(await box.newMediaId(fate));
    const page = await fetch(box.url + '/uploadImgDemo');
    const body = new URLSearchParams(Object.assign({ data: JSON.stringify({ imgIds: ids }) }, about));
    const answer = await fetch(box.url + '/uploadImgData', { method: 'POST', body, headers: { Cookie: page.headers.get('set-cookie').split(';')[0] } });
    assert.equal((await answer.json()).rc, 0);
    return ids;
  }

  operator('the link logs in, disappears from the address, and stays logged in', {}, async (page) => {
    await inside(page);
    assert.equal(page.url(), box.url + '/admin/');
    assert.equal(await page.evaluate(() => history.length), 2, 'the token is in no entry of the history'); // about:blank and the page
    await page.reload();
    await inside(page);
    await page.click('#logout');
    await page.waitForSelector('#login:not([hidden])');
    assert.equal(await page.isVisible('#status'), false);
  });

  operator('without the token it is asked for; a wrong one is refused, guessing is slowed', { hash: '', allow: /status of 4(01|29)/ }, async (page) => {
    await page.waitForSelector('#login:not([hidden])');
    await accessible(page, 'log-in');
    for (let guess = 0; guess < 14; guess++) {
      await page.fill('#token', 'guess' + guess);
      const [answer] = await Promise.all([page.waitForResponse(/admin\/login/), page.click('#enter')]);
      if (!guess) await page.waitForFunction(() => /not right/.test(document.querySelector('#notice').textContent));
      if (answer.status() === 429) break;
      assert.ok(guess < 12, 'guessing is not slowed');
    }
    await page.waitForFunction(() => /Too many/.test(document.querySelector('#notice').textContent));
    assert.equal(await page.isVisible('#views'), false);
    await shot(page, 'login');
  });

  operator('the status follows what happens; a failed picture is told with its remedy and retried', {}, async (page) => {
    await inside(page);
    const [id] = await submit('failed', 1);
    await page.waitForSelector('#failed li');
    const text = await page.innerText('#failed');
    assert.match(text, /What to do: /);
    assert.ok(text.includes(id), text);
    assert.match(await page.innerText('#lead'), /need you: 1/);
    await box.setFate(id, 'saved');
    await page.click('#failed li button');
    await page.waitForFunction(() => !document.querySelectorAll('#failed li').length);
    await page.waitForFunction(() => /home/.test(document.querySelector('#lead').textContent));
    await page.waitForSelector('#lastPart:not([hidden])');
    await page.waitForFunction(() => document.querySelector('#lastThumb').naturalWidth > 0);
    await submit('failed', 3);
    await page.waitForFunction(() => document.querySelectorAll('#failed li').length === 3);
    const [retried] = await Promise.all([page.waitForResponse(/admin\/retry/), page.click('#retryAll')]);
    assert.deepEqual(await retried.json(), { rc: 0, retried: 3 });
    assert.match(await page.innerText('#facts'), /Disk free/);
    await page.click('#lastPicture');
    await page.waitForSelector('#viewer:not([hidden])');
  });

  operator('what the stick in the box got is told', {}, async (page) => {
    await inside(page);
    const told = async (report, pattern) => {
      fs.writeFileSync(path.join(box.runtime, 'usb.json'), JSON.stringify({ device: 'sda1', since: '2026-11-22T10:00:00Z', export: null, ...report }));
      await page.waitForFunction((p) => new RegExp(p).test(document.querySelector('#facts').textContent), pattern);
    };
    await told({ state: 'working', reason: '', safe_to_pull: false }, 'Stick.*leave it in');
    await told({ state: 'failed', reason: 'the stick is full', safe_to_pull: false }, 'not complete: the stick is full');
    await told({ state: 'done', reason: '', safe_to_pull: true }, 'complete, safe to pull \\(');
    await accessible(page, 'stick');
    fs.rmSync(path.join(box.runtime, 'usb.json'));
  });

  it('a pause is told with reason, remedy and next try, and ends by a button', { timeout: 120000 }, async () => {
    let paused = true;
    await admin({ hash: '', path: '/admin/nothing', allow: /status of 401/ }, async (page, context) => {
      await context.route('**/admin/status?*', async (route) => {
        const response = await route.fetch();
        const body = await response.json();
        body.paused = paused ? { code: '48001', reason: 'the account is not verified', remedy: 'have it verified', until: new Date(Date.now() + 60000).toISOString() } : null;
        return route.fulfill({ response, json: body });
      });
      await context.route('**/admin/resume', (route) => { paused = false; assert.equal(route.request().headers()['x-tubox-admin'], '1'); return route.continue(); });
      await page.goto(box.url + '/admin/#' + token);
      await page.waitForSelector('#pause:not([hidden])');
      assert.match(await page.innerText('#pause'), /not verified \(48001\)[^]*have it verified[^]*Next try/);
      await accessible(page, 'paused');
      await shot(page, 'paused');
      await page.click('#resume');
      await page.waitForSelector('#pause', { state: 'hidden' });
    });
  });

  operator('when the box does not answer, the page says so and goes on by itself', { allow: /ERR_FAILED/ }, async (page, context) => {
    await inside(page);
    await page.waitForSelector('#facts dd');
    let away = true;
    await context.route('**/admin/status?*', (route) => (away ? route.abort('failed') : route.continue()));
    await page.waitForSelector('#notice:not([hidden])', { timeout: 15000 });
    assert.match(await page.innerText('#notice'), /does not answer/);
    away = false;
    await page.waitForSelector('#notice', { state: 'hidden', timeout: 30000 });
  });

  operator('a thousand pictures: paged, few thumbnails at a time, far ones let go, smooth', {}, async (page) => {
    await inside(page);
    let asked = 0;
    let most = 0;
    page.on('request', (r) => { if (/\/thumb\//.test(r.url())) { asked += 1; most = Math.max(most, asked); } });
    const ended = (r) => { if (/\/thumb\//.test(r.url())) asked -= 1; };
    page.on('requestfinished', ended);
    page.on('requestfailed', ended);
    await go(page, 'pictures');
    await openDay(page);
    await loaded(page, 12);
    assert.ok((await page.$$(`details[data-day="${DAY}"] .tile`)).length <= 240, 'not all rows at once');
    const frames = await page.evaluate(async () => {
      const gaps = [];
      let past = performance.now();
      let still = 0;
      for (let n = 0; still < 60 && n < 4000; n++) {
        const before = window.scrollY;
        window.scrollBy(0, 600);
        await new Promise(requestAnimationFrame);
        const now = performance.now();
        gaps.push(now - past);
        past = now;
        if (window.scrollY === before) { still += 1; await new Promise((done) => setTimeout(done, 50)); past = performance.now(); } else still = 0;
      }
      gaps.sort((a, b) => a - b);
      return { n: gaps.length, median: gaps[gaps.length >> 1], late: gaps[Math.floor(gaps.length * 0.95)] };
    });
    assert.equal((await page.$$(`details[data-day="${DAY}"] .tile`)).length, MANY);
    assert.ok(frames.median < 100 && frames.late < 400, JSON.stringify(frames));
    const held = await page.$$eval('.tile img[src]', (all) => all.length);
    assert.ok(held < 250, `${held} thumbnails are held at once`);
    assert.ok(most <= 4, `${most} thumbnails were asked for at a time`);
    await page.waitForFunction(() => Array.from(document.querySelectorAll('.tile')).filter((t) => { const r = t.getBoundingClientRect(); return r.bottom > 0 && r.top < innerHeight; }).every((t) => t.querySelector('img').naturalWidth > 0));
    if (process.env.SHOTS) process.stderr.write(`frames: ${JSON.stringify(frames)}, held ${held}\n`);
  });

  operator('by team, one picture with its facts, and the file itself', {}, async (page) => {
    await inside(page);
    await go(page, 'pictures');
    const day = await openDay(page);
    await page.selectOption(`${day} select`, '北方队');
    await page.waitForFunction((d) => Array.from(document.querySelectorAll(d + ' .tile button')).every((b) => /北方队/.test(b.getAttribute('aria-label'))), day);
    await page.click(`${day} .tile button`);
    await page.waitForFunction(() => document.querySelector('#viewerImage').naturalWidth === 640 || document.querySelector('#viewerImage').naturalWidth === 480);
    const facts = await page.innerText('#viewerFacts');
    assert.match(facts, /北方队[^]*SHA-256\s+[0-9a-f]{64}/);
    await accessible(page, 'one picture');
    const first = await page.innerText('#viewerName');
    await page.click('#viewerOn');
    await page.waitForFunction((name) => document.querySelector('#viewerName').innerText !== name, first);
    const [download] = await Promise.all([page.waitForEvent('download'), page.click('#viewerFile')]);
    const bytes = fs.readFileSync(await download.path());
    const name = await page.innerText('#viewerName');
    assert.equal(download.suggestedFilename(), name);
    assert.deepEqual(bytes, fs.readFileSync(path.join(box.data, 'pictures', DAY, name)));
    await page.keyboard.press('Escape');
    await page.waitForSelector('#viewer', { state: 'hidden' });
    assert.equal(await page.evaluate(() => document.activeElement.closest('.tile') !== null), true, 'the focus comes back');
  });

  // unzip and sha256sum are the judges of what came.
  function judged(zip, name) {
    const to = path.join(files, name);
    assert.match(execFileSync('unzip', ['-t', zip]).toString(), /No errors detected/);
    execFileSync('unzip', ['-q', zip, '-d', to]);
    return fs.readdirSync(to).reduce((sum, day) => {
      const told = execFileSync('sha256sum', ['-c', '--strict', 'SHA256SUMS'], { cwd: path.join(to, day) }).toString();
      return sum + told.split('\n').filter((line) => line.endsWith(': OK')).length;
    }, 0);
  }
  operator('a zip of a day, of a team and of a selection', {}, async (page) => {
    await inside(page);
    await go(page, 'pictures');
    const day = await openDay(page);
    const take = async (name, how) => {
      const [download] = await Promise.all([page.waitForEvent('download'), how()]);
      assert.match(download.suggestedFilename(), /^tubox-[\w-]+\.zip$/);
      return judged(await download.path(), name);
    };
    assert.equal(await take('day', () => page.click(`${day} [data-take=zip]`)), MANY);
    await page.selectOption(`${day} select`, 'south');
    await page.waitForFunction((d) => document.querySelector(d + ' [data-take=zip]').href.endsWith('team=south'), day);
    assert.equal(await take('team', () => page.click(`${day} [data-take=zip]`)), SOUTH);
    await page.waitForSelector(`${day} .tile`);
    await page.click(`${day} .links button`);
    for (const n of [0, 3, 5]) await page.click(`${day} .tile >> nth=${n}`);
    assert.equal(await page.innerText('#pickedCount'), 'Selected: 3');
    assert.equal(await take('selection', () => page.click('#pickedZip')), 3);
    const [list] = await Promise.all([page.waitForEvent('download'), page.click(`${day} [data-take=csv]`)]);
    const lines = fs.readFileSync(await list.path(), 'utf8').trim().split(/\r?\n/);
    assert.ok(lines.length === SOUTH / 2 + 1 && lines.slice(1).every((line) => line.startsWith('31.2304,121.4737,') && !/,=/.test(line)));
  });

  operator('the QR code of a team', {}, async (page) => {
    await inside(page);
    await go(page, 'invite');
    await page.fill('#inviteTeam', '北方 队&1');
    await page.waitForFunction(() => document.querySelector('#posterAddress').textContent.includes('team='));
    await page.waitForFunction(() => document.querySelector('#qr').naturalWidth > 0);
    const asked = new URL(await page.getAttribute('#qr', 'src'), box.url).searchParams.get('url');
    assert.equal(new URL(asked).searchParams.get('team'), '北方 队&1');
    await page.emulateMedia({ media: 'print' });
    assert.equal(await page.isVisible('#views'), false);
    assert.equal(await page.isVisible('#qr'), true);
  });

  operator('the contact sheet waits for its thumbnails and is fit to print', { path: '/admin/' }, async (page) => {
    await inside(page);
    await page.goto(`${box.url}/admin/sheet?day=${DAY}&team=south`);
    await page.waitForSelector('#print:not(:disabled)', { timeout: 90000 });
    const items = await page.$$eval('#sheet li', (all) => all.map((x) => [x.querySelector('img').naturalWidth > 0, /[0-9a-f]{64}/.test(x.textContent)]));
    assert.equal(items.length, SOUTH);
    assert.ok(items.every((x) => x[0] && x[1]), 'a picture or a hash is missing');
    await accessible(page, 'contact sheet');
    await fits(page, 'contact sheet');
    await shot(page, 'sheet');
    const paper = await page.pdf({ format: 'A4' });
    assert.ok(paper.length > 10000);
    if (process.env.SHOTS) fs.writeFileSync(path.join(process.env.SHOTS, 'sheet.pdf'), paper);
  });

  for (const [colorScheme, locale, width] of [['light', 'zh-CN', 390], ['dark', 'en', 390], ['light', 'en', 320]]) {
    operator(`axe finds nothing, nothing scrolls sideways (${colorScheme}, ${locale}, ${width} px)`, { colorScheme, locale, viewport: { width, height: 844 } }, async (page) => {
      const name = (view) => `${view}-${colorScheme}-${locale}-${width}`;
      await inside(page);
      await submit('failed', 1, { team: '北方队' });
      await page.waitForSelector('#failed li');
      for (const view of ['status', 'pictures', 'invite']) {
        await go(page, view);
        if (view === 'pictures') {
          await openDay(page);
          await page.$eval(`details[data-day="${DAY}"]`, (x) => x.scrollIntoView());
          await loaded(page, 12);
        }
        if (view === 'invite') {
          await page.fill('#inviteTeam', '北方队');
          await page.waitForFunction(() => document.querySelector('#qr').naturalWidth > 0 && document.querySelector('#posterAddress').textContent.includes('team='));
        }
        await accessible(page, name(view));
        await fits(page, name(view));
        await shot(page, name(view));
        if (view === 'status') await shot(page, name('status-full'), { fullPage: true });
        if (view !== 'pictures') continue;
        await page.click(`details[data-day="${DAY}"] .links button`);
        const tiles = await page.$$(`details[data-day="${DAY}"] .tile button`);
        await tiles[0].click();
        await tiles[2].click();
        await accessible(page, name('picking'));
        await fits(page, name('picking'));
        await shot(page, name('picking'));
        await page.click(`details[data-day="${DAY}"] .links button`);
        await tiles[1].click();
        await page.waitForFunction(() => document.querySelector('#viewerImage').naturalWidth >= 480);
        await shot(page, name('picture'));
        await page.click('#viewerClose');
        await page.waitForSelector('#viewer', { state: 'hidden' });
      }
    });
  }
});
