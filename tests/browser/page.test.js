'use strict';
// The contributors' page in a real browser, with real clicks. Each case is one thing that happens to people in the field.
const assert = require('node:assert/strict');
const { describe } = require('node:test');
const { pageCase } = require('./browser.js');

const REFUSED = 'fail,Error: 系统错误,错误码:63002,invalid signature [20231122 10:00:00][wxdemo]';
const NETWORK = /Failed to load resource/; // Chromium's own line for a status of 400 and more, or no connection
const json = (status, body, headers) => (route) => route.fulfill({ status, headers, contentType: 'application/json', body: JSON.stringify(body) });
// Plays the given answers one after another, then lets requests pass.
function inTurn(...plays) {
  const play = async (route) => { play.count += 1; return plays.length ? plays.shift()(route) : false; };
  play.count = 0;
  return play;
}
const cutOff = (route) => route.abort('failed');
const outbox = (page) => page.evaluate(() => JSON.parse(localStorage.getItem('tubox.outbox') || '[]'));
const mine = async (h) => (await h.box.submissions()).filter((s) => s.ids.some((id) => h.ids.indexOf(id) >= 0));

describe('the page', { concurrency: 3 }, () => {
  // ---- the plain way ----
  pageCase('following the highlighted button ends with everything saved (Android, Chinese)', { lang: 'zh-CN' }, async (h) => {
    assert.equal(await h.primary(), 'chooseImage');
    await h.choose();
    assert.equal(await h.primary(), 'uploadImage');
    await h.page.click('button.primary');
    await h.states('uploaded', 'uploaded', 'uploaded');
    assert.equal(await h.primary(), 'postData');
    await h.page.click('button.primary');
    await h.states('saved', 'saved', 'saved');
    assert.equal(await h.primary(), 'chooseImage');
    assert.match(await h.page.innerText('#advice'), /全部 3 张已安全保存/);
    assert.equal(await h.page.getAttribute('html', 'lang'), 'zh-CN');
  });

  pageCase('following the highlighted button ends with everything saved (iPhone, English)', { agent: 'ios', lang: 'en' }, async (h) => {
    await h.choose();
    await h.page.click('button.primary');
    await h.states('uploaded', 'uploaded', 'uploaded');
    await h.page.click('button.primary');
    await h.states('saved', 'saved', 'saved');
    assert.match(await h.page.innerText('#advice'), /Safely saved, all 3/);
  });

  pageCase('pictures are uploaded one by one, in the order of choosing, and submitted in that order', { plan: { choices: [4, 2] } }, async (h) => {
    await h.choose();
    await h.choose();
    await h.tap('uploadImage');
    await h.states(...Array(6).fill('uploaded'));
    await h.tap('postData');
    await h.states(...Array(6).fill('saved'));
    assert.deepEqual((await h.wx()).uploads, [1, 2, 3, 4, 5, 6]);
    assert.deepEqual((await mine(h))[0].ids, h.ids.slice(1));
    assert.ok((await h.wx()).tips.every((x) => x === 1), 'isShowProgressTips is 1');
  });

  pageCase('pictures move from the chosen to the uploaded ones, each with its state', { plan: { choices: [2] } }, async (h) => {
    await h.choose();
    assert.equal(await h.page.locator('#imgs [data-picture][data-state=chosen] .remove').count(), 2);
    await h.tap('uploadImage');
    await h.states('uploaded', 'uploaded');
    assert.equal(await h.page.locator('#imgs [data-picture]').count(), 0);
    assert.equal(await h.page.locator('#uploadImgs [data-picture] .remove').count(), 2);
    await h.tap('postData');
    await h.states('saved', 'saved');
    assert.equal(await h.page.locator('.remove').count(), 0, 'what was handed in cannot be removed');
  });

  pageCase('a chosen picture can be removed and is not uploaded', {}, async (h) => {
    await h.choose();
    await h.page.click('[data-picture="2"] .remove');
    await h.tap('uploadImage');
    await h.states('uploaded', 'uploaded');
    assert.deepEqual((await h.wx()).uploads, [1, 3]);
  });

  pageCase('an uploaded picture can be removed and is not submitted, not even after a reload', {}, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded', 'uploaded', 'uploaded');
    await h.page.click('[data-picture="1"] .remove');
    assert.deepEqual((await outbox(h.page)).map((e) => e.id), [h.ids[2], h.ids[3]]);
    await h.tap('postData');
    await h.states('saved', 'saved');
    assert.deepEqual((await mine(h)).map((s) => s.ids), [[h.ids[2], h.ids[3]]]);
  });

  pageCase('pictures chosen later are added, and a second submission is made for them', { plan: { choices: [1, 1] } }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded');
    await h.tap('postData');
    await h.states('saved');
    await h.choose();
    await h.tap('uploadImage');
    await h.states('saved', 'uploaded');
    await h.tap('postData');
    await h.states('saved', 'saved');
    assert.equal((await mine(h)).length, 2);
  });

  pageCase('the buttons used out of turn answer with a sentence', {}, async (h) => {
    await h.tap('uploadImage');
    assert.match(await h.notice('nothing'), /Choose/);
    await h.load();
    await h.tap('postData');
    assert.match(await h.notice('nothing'), /upload/);
  });

  pageCase('cancelling the chooser changes nothing and says nothing', { plan: { choices: ['cancel', 'fail cancel', 1] } }, async (h) => {
    await h.tap('chooseImage');
    await h.tap('chooseImage');
    await h.choose();
    await h.states('chosen');
    assert.equal(await h.page.innerText('#notices'), '');
  });

  pageCase('the picture size is the person\'s choice and remembered', {}, async (h) => {
    await h.choose();
    await h.page.click('label:has(#original)');
    await h.choose();
    assert.deepEqual((await h.wx()).chosen.map((c) => c.sizeType), [['original'], ['compressed']]);
    assert.equal((await h.wx()).chosen[0].count, 9);
    await h.load();
    assert.ok(!(await h.page.isChecked('#original')));
  });

  pageCase('more ids than one submission takes are sent in several', { settings: { ids_per_submission: 2 } }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded', 'uploaded', 'uploaded');
    await h.tap('postData');
    await h.states('saved', 'saved', 'saved');
    assert.deepEqual((await mine(h)).map((s) => s.ids.length), [2, 1]);
  });

  // ---- thumbnails ----
  const loaded = (h, n) => h.page.waitForFunction((k) => {
    const img = document.querySelector(`[data-picture="${k}"] img`);
    return img && img.src && img.complete && img.naturalWidth > 0;
  }, n);

  pageCase('Android shows the local id itself and asks for no data', {}, async (h) => {
    await h.choose();
    await loaded(h, 3);
    assert.equal((await h.wx()).previews, 0);
  });

  pageCase('iPhone thumbnails come from "jgp" data, one at a time, and are kept small', { agent: 'ios' }, async (h) => {
    await h.choose();
    for (const n of [1, 2, 3]) await loaded(h, n);
    await h.page.waitForFunction(() => Array.from(document.querySelectorAll('[data-picture] img')).every((x) => x.src.startsWith('blob:') && x.naturalWidth === 240));
  });

  pageCase('Android falls back to data with line breaks when the local id does not load', { unloadable: true, allow: NETWORK }, async (h) => {
    await h.choose();
    for (const n of [1, 2, 3]) await loaded(h, n);
  });

  pageCase('an empty or lost preview leaves a neutral tile and does not hold up the rest', { agent: 'ios', plan: { previews: { 1: 'empty', 2: 'hang' } } }, async (h) => {
    await h.choose();
    await loaded(h, 3);
    assert.equal(await h.page.locator('[data-picture="1"] img').getAttribute('src'), null);
    await h.tap('uploadImage');
    await h.states('uploaded', 'uploaded', 'uploaded');
  });

  pageCase('local ids given as a JSON string are understood', { plan: { asText: true, choices: [2] } }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded', 'uploaded');
  });

  // ---- uploads that fail ----
  pageCase('one failed upload does not stop the others and is tried again alone', { plan: { uploads: { 2: ['fail:network error'] }, choices: [3, 1] } }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded', 'failed', 'uploaded');
    assert.match(await h.notice('upload_failed'), /network error/);
    await h.choose();
    await h.page.click('[data-picture="2"] .again');
    await h.states('uploaded', 'uploaded', 'uploaded', 'chosen');
    assert.deepEqual((await h.wx()).uploads, [1, 2, 3, 2], 'the fourth was not asked for');
    await h.noNotice('upload_failed');
  });

  pageCase('a picture that never uploads does not bar the way of the others', { plan: { uploads: { 2: Array(9).fill('fail:file not found') } } }, async (h) => {
    // highlighted in turn: choose, upload, upload again, submit the others, and only then the stubborn one again
    const taps = [];
    for (let i = 0; i < 4; i++) {
      taps.push(await h.primary());
      if (i === 0) await h.choose(); else await h.page.click('button.primary');
      await h.states(...[['chosen', 'chosen', 'chosen'], ['uploaded', 'failed', 'uploaded'], ['uploaded', 'failed', 'uploaded'], ['saved', 'failed', 'saved']][i]);
      if (i === 2) await h.page.waitForSelector('#postData.primary');
    }
    assert.deepEqual(taps, ['chooseImage', 'uploadImage', 'uploadImage', 'postData']);
    assert.equal(await h.primary(), 'uploadImage');
      assert.equal(await h.page.locator('[data-picture="2"] .remove').count(), 1);
  });

  pageCase('an upload without any answer is given up, said, and the next goes on', { plan: { uploads: { 1: ['hang'] } }, settings: { upload_watchdog_ms: 400 } }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.states('failed', 'uploaded', 'uploaded');
    assert.match(await h.notice('upload_failed'), /timeout/);
    await h.tap('uploadImage');
    await h.states('uploaded', 'uploaded', 'uploaded');
  });

  pageCase('an id that comes after the watchdog gave up is kept', { plan: { uploads: { 1: ['late'] }, choices: [1] }, settings: { upload_watchdog_ms: 300 } }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.states('failed');
    await h.page.evaluate(() => window.__arriveLate());
    await h.states('uploaded');
    await h.tap('postData');
    await h.states('saved');
  });

  pageCase('an upload cancelled in WeChat stops the row and can go on', { plan: { uploads: { 2: ['cancel'] } } }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.notice('cancel');
    await h.states('uploaded', 'chosen', 'chosen');
    await h.tap('uploadImage');
    await h.states('uploaded', 'uploaded', 'uploaded');
  });

  pageCase('a slow network is named', { plan: { network: '2g' } }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.page.waitForFunction(() => /2g/.test(document.getElementById('counts').textContent));
    await h.states('uploaded', 'uploaded', 'uploaded');
  });

  // ---- signature and WeChat's readiness ----
  pageCase('the embedded signature is used when it is for this very address, extra parameters and all', { query: '?team=north&from=singlemessage&isappinstalled=0#x' }, async (h) => {
    const asked = inTurn();
    h.routes['/jssdk-config'] = asked;
    await h.choose();
    assert.equal(asked.count, 0);
    assert.equal((await h.wx()).configs.length, 1);
    assert.equal(await h.page.evaluate(() => history.length), 2);
  });

  pageCase('a signature for another address is not used; the real one is asked', {
    query: '?team=%E5%8C%97&from=timeline#top', embed: (c) => Object.assign(c, { url: c.url.replace('from=timeline', '') }),
  }, async (h) => {
    let asked = '';
    h.routes['/jssdk-config'] = (route) => { asked = new URL(route.request().url()).searchParams.get('url'); return false; };
    await h.load();
    await h.page.reload();
    await h.choose();
    assert.equal(asked, h.address.split('#')[0]);
    assert.equal((await h.wx()).configs.length, 1);
  });

  pageCase('without a ticket the page says so and goes on by itself', { closed: true, noTicket: true, allow: NETWORK }, async (h) => {
    const wait = json(503, { rc: 1, msg: 'no ticket yet' });
    h.routes['/jssdk-config'] = inTurn(wait, wait, wait, wait);
    await h.load();
    assert.match(await h.notice('permit'), /permission/);
    await h.noNotice('permit');
    await h.choose();
  });

  pageCase('choosing before WeChat is ready opens the chooser as soon as it is', { plan: { late: true } }, async (h) => {
    await h.page.waitForFunction(() => window.__appear);
    await h.tap('chooseImage');
    await h.notice('moment');
    await h.page.evaluate(() => window.__appear());
    await h.states('chosen', 'chosen', 'chosen');
  });

  pageCase('a refused signature is asked anew once, silently, and the box is told', { closed: true, plan: { configs: [REFUSED] } }, async (h) => {
    const told = [];
    h.routes['/jssdk-config'] = (route) => { told.push(new URL(route.request().url()).searchParams.get('refused')); return false; };
    await h.load();
    await h.choose();
    assert.deepEqual(told, ['1']);
    assert.equal((await h.wx()).configs.length, 2);
    assert.equal(await h.page.innerText('#notices'), '');
  });

  pageCase('a signature refused twice is said in words, and can be tried again', { plan: { configs: [REFUSED, REFUSED] } }, async (h) => {
    assert.match(await h.notice('signature'), /refuses.*63002/s);
    await h.page.click('[data-notice=signature] button');
    await h.noNotice('signature');
    await h.choose();
  });

  pageCase('ready after a failed config, error handler never called: the first call tells, and config is asked anew', {
    plan: { configs: [REFUSED], errorHandler: false, choices: ['fail, the permission value is offline verifying', 2] },
  }, async (h) => {
    await h.choose();
    await h.states('chosen', 'chosen');
    assert.equal((await h.wx()).configs.length, 2);
  });

  pageCase('an account without the permission is told apart', { plan: { choices: Array(5).fill('permission denied') } }, async (h) => {
    await h.tap('chooseImage');
    assert.match(await h.notice('permission'), /not allowed.*permission denied/s);
  });

  pageCase('an upload refused for want of a valid config goes on after a new one', { plan: { uploads: { 2: ['fail, the permission value is offline verifying'] } } }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded', 'uploaded', 'uploaded');
    assert.equal((await h.wx()).configs.length, 2);
  });

  pageCase('an unregistered domain is named', { plan: { configs: ['fail,Error: 系统错误,错误码:40048,invalid url domain'] } }, async (h) => {
    assert.match(await h.notice('domain'), /JS接口安全域名/);
  });

  pageCase('a config without any answer is said, and can be tried again', { plan: { configs: ['silent'] }, settings: { config_wait_ms: 1500 } }, async (h) => {
    await h.notice('silent');
    await h.page.click('[data-notice=silent] button');
    await h.choose();
  });

  pageCase('an address that the box does not know is said', { closed: true, noTicket: true, allow: NETWORK }, async (h) => {
    h.routes['/jssdk-config'] = json(403, { rc: 1, msg: 'foreign' });
    await h.load();
    await h.notice('wrong_address');
  });

  pageCase('the second script host serves when the first does not', { scripts: ['res2.wx.qq.com'], allow: NETWORK }, async (h) => {
    await h.choose();
  });

  pageCase('no script host: said, tried again, and working in the end', { scripts: [], allow: NETWORK }, async (h) => {
    await h.notice('script_missing');
    await h.context.route('https://res.wx.qq.com/**', (route) => route.fulfill({ contentType: 'text/javascript', path: require.resolve('./wx-stub.js') }));
    await h.noNotice('script_missing');
    await h.choose();
  });

  pageCase('back from the browser\'s cache, config runs again with a fresh signature', {}, async (h) => {
    await h.choose();
    const asked = inTurn();
    h.routes['/jssdk-config'] = asked;
    await h.page.evaluate(() => window.dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true })));
    await h.page.waitForFunction(() => window.__wx.configs.length === 2);
    await h.choose();
    assert.equal(asked.count, 1);
  });

  // ---- the box is away, full, or refuses ----
  pageCase('a box out of reach: ids are kept, said, and sent by itself', { allow: NETWORK }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded', 'uploaded', 'uploaded');
    let away = true;
    h.routes['/uploadImgData'] = (route) => (away ? cutOff(route) : false);
    await h.tap('postData');
    await h.notice('later');
    assert.equal((await outbox(h.page)).length, 3);
    away = false;
    await h.states('saved', 'saved', 'saved');
    await h.noNotice('later');
    assert.deepEqual(await outbox(h.page), []);
  });

  pageCase('the online event cuts the waiting short', { allow: NETWORK, settings: { retry_first_ms: 600000, retry_most_ms: 600000 } }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded', 'uploaded', 'uploaded');
    h.routes['/uploadImgData'] = inTurn(cutOff);
    await h.tap('postData');
    await h.notice('later');
    await h.page.evaluate(() => window.dispatchEvent(new Event('online')));
    await h.states('saved', 'saved', 'saved');
  });

  pageCase('a full box: its own words are shown and the ids are sent later', { allow: NETWORK, plan: { choices: [1] } }, async (h) => {
    const full = json(503, { rc: 1, msg: 'the box is full', code: 'full' });
    h.routes['/uploadImgData'] = inTurn(full, full, full, json(429, { rc: 1, msg: 'slow down' }, { 'Retry-After': '1' }));
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded');
    await h.tap('postData');
    assert.match(await h.notice('later'), /the box is full/);
    await h.states('saved');
    assert.equal(h.routes['/uploadImgData'].count, 5);
  });

  pageCase('the login page of a hotel network is not taken for the box', { plan: { choices: [1] } }, async (h) => {
    h.routes['/uploadImgData'] = inTurn((route) => route.fulfill({ contentType: 'text/html', body: '<h1>Welcome, please log in</h1>' }));
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded');
    await h.tap('postData');
    await h.states('saved');
    assert.equal(h.routes['/uploadImgData'].count, 2);
  });

  pageCase('a pass that has run out is renewed without a word', { plan: { choices: [2] } }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded', 'uploaded');
    await h.context.clearCookies();
    await h.tap('postData');
    await h.states('saved', 'saved');
    assert.equal(await h.page.innerText('#notices'), '');
  });

  pageCase('one refused id does not take the others with it', {}, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded', 'uploaded', 'uploaded');
    h.routes['/uploadImgData'] = (route) => {
      const ids = JSON.parse(new URLSearchParams(route.request().postData()).get('data')).imgIds;
      return ids.indexOf(h.ids[2]) < 0 ? false : json(200, { rc: 1, msg: 'bad media id', code: 'bad-media-id' })(route);
    };
    await h.tap('postData');
    await h.states('saved', 'failed', 'saved');
    assert.match(await h.notice('refused_failed'), /bad media id/);
    await h.page.click('[data-picture="2"] .remove');
    await h.states('saved', 'saved');
    assert.deepEqual(await outbox(h.page), []);
  });

  pageCase('a picture that the box could not fetch shows why and can be uploaded again', { plan: { choices: [2] }, fates: { 2: 'failed' } }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded', 'uploaded');
    await h.tap('postData');
    await h.states('saved', 'failed');
    assert.match(await h.notice('box_failed'), /not a picture/);
    const first = h.ids[2];
    await h.page.click('[data-picture="2"] .again');
    await h.states('saved', 'uploaded');
    await h.box.setFate(h.ids[2], 'saved');
    await h.tap('postData');
    await h.states('saved', 'saved');
    assert.notEqual(h.ids[2], first);
  });

  // ---- nothing is lost on the phone ----
  pageCase('ids that were uploaded and not submitted are sent by themselves after a reload, with their names', { query: '?team=north' }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded', 'uploaded', 'uploaded');
    await h.load();
    assert.match(await h.notice('found_sent'), /3/);
    await h.states('saved', 'saved', 'saved');
    const sent = await mine(h);
    assert.deepEqual(sent.map((s) => [s.ids, s.team]), [[h.ids.slice(1), 'north']]);
    await h.load();
    await h.page.waitForSelector('#receipts li');
    assert.equal((await mine(h)).length, 1, 'nothing is sent twice');
  });

  pageCase('a day without network: found ids wait and go out when it is back', { allow: NETWORK, plan: { choices: [1] } }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded');
    let away = true;
    h.routes['/uploadImgData'] = (route) => (away ? cutOff(route) : false);
    await h.load();
    await h.notice('found');
    await h.notice('later');
    away = false;
    await h.states('saved');
  });

  pageCase('an id is in storage before the picture shows as uploaded', { plan: { choices: [1] } }, async (h) => {
    await h.choose();
    await h.page.evaluate(() => {
      new MutationObserver(() => {
        if (document.querySelector('[data-state=uploaded]') && window.__kept === undefined) window.__kept = localStorage.getItem('tubox.outbox');
      }).observe(document.body, { subtree: true, attributes: true, childList: true });
    });
    await h.tap('uploadImage');
    await h.states('uploaded');
    assert.match(await h.page.evaluate(() => window.__kept), new RegExp(h.ids[1]));
  });

  pageCase('pictures chosen but not uploaded before a reload are named', {}, async (h) => {
    await h.choose();
    await h.load();
    assert.match(await h.notice('lost'), /3/);
  });

  pageCase('ids older than 72 hours are dropped with a sentence', { closed: true, init: "if (!localStorage.getItem('tubox.outbox')) localStorage.setItem('tubox.outbox', JSON.stringify([{ id: 'old_one', at: Date.now() - 73 * 3600e3 }]))" }, async (h) => {
    await h.load();
    assert.match(await h.notice('expired'), /72 hours.*1/s);
    assert.deepEqual(await outbox(h.page), []);
    await h.states();
  });

  pageCase('a phone whose storage throws still works, and says what that means', { init: "Object.defineProperty(window, 'localStorage', { get() { throw new Error('denied'); } })", plan: { choices: [1] } }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.notice('no_storage');
    await h.states('uploaded');
    await h.tap('postData');
    await h.states('saved');
    await h.page.waitForSelector('#receipts a');
  });

  pageCase('a phone whose storage is full still works', { init: "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }", plan: { choices: [1] } }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded');
    await h.tap('postData');
    await h.states('saved');
  });

  // ---- receipts ----
  pageCase('the receipt stands in the page with its link and can be copied', { plan: { choices: [1] } }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded');
    await h.tap('postData');
    await h.states('saved');
    const href = await h.page.getAttribute('#receipts a', 'href');
    assert.match(href, /^\/receipt\/\w+$/);
    await h.page.click('#receipts button');
    await h.notice('copied');
    await h.page.click('#receipts a');
    await h.page.waitForSelector('.receipt');
    assert.ok(await h.page.isHidden('#chooseImage'));
    await h.states('saved');
    assert.equal((await h.page.innerText('#receipts a')).split('/').pop(), href.split('/')[2]);
    assert.match(await h.page.innerText('#uploadImgs'), /SHA-256 [0-9a-f]{64}/);
    await h.page.click('#addMore');
    await h.page.waitForSelector('#chooseImage');
  });

  pageCase('a receipt page keeps itself up to date until all is settled, in any browser', { plan: { choices: [2] }, fates: { 1: 'waiting', 2: 'waiting' } }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded', 'uploaded');
    await h.tap('postData');
    await h.states('submitted', 'submitted');
    assert.match(await h.page.innerText('#advice'), /may close this page/);
    await h.page.click('#receipts a');
    await h.states('submitted', 'submitted');
    await h.box.setFate(h.ids[1], 'saved');
    await h.states('saved', 'submitted');
    await h.box.setFate(h.ids[2], 'failed');
    await h.states('saved', 'failed');
    assert.match(await h.page.innerText('#uploadImgs'), /not a picture/);
    const asks = inTurn();
    await h.page.waitForTimeout(300); // a poll under way when the last answer came
    h.routes['/receipt'] = asks;
    await h.page.waitForTimeout(600);
    assert.equal(asks.count, 0, 'nothing is asked when all is settled');
  });

  pageCase('an unknown receipt is said', { path: '/receipt/0123456789abcdef', allow: NETWORK }, async (h) => {
    await h.page.waitForFunction(() => /no such receipt/.test(document.getElementById('advice').textContent));
  });

  pageCase('a page that nobody sees asks nothing', { plan: { choices: [1] }, fates: { 1: 'waiting' } }, async (h) => {
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded');
    await h.tap('postData');
    await h.states('submitted');
    const hide = (yes) => h.page.evaluate((hidden) => {
      Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event('visibilitychange'));
    }, yes);
    await hide(true);
    await h.page.waitForTimeout(400);
    const asks = inTurn();
    h.routes['/receipt'] = asks;
    await h.page.waitForTimeout(600);
    assert.equal(asks.count, 0);
    await h.box.setFate(h.ids[1], 'saved');
    await hide(false);
    await h.states('saved');
  });

  // ---- where the page is opened ----
  pageCase('outside WeChat there is the code of the page\'s own address and no chooser', { agent: 'browser', query: '?team=north' }, async (h) => {
    assert.match(await h.page.innerText('main'), /open this link in WeChat/);
    assert.ok(await h.page.isHidden('#chooseImage'));
    assert.equal(new URL(await h.page.getAttribute('#qr', 'src'), h.box.url).searchParams.get('url'), h.address);
    await h.page.waitForFunction(() => document.getElementById('qr').naturalWidth > 0);
    await h.page.click('#copy');
    await h.notice('copied');
  });

  pageCase('enterprise WeChat is told apart', { agent: 'wxwork' }, async (h) => {
    assert.match(await h.page.innerText('main'), /WeCom/);
    assert.ok(await h.page.isHidden('#chooseImage'));
  });

  pageCase('the developer tools are told apart', { agent: 'devtools', plan: { platform: 'ios', choices: [1] }, fates: { 1: 'fake' } }, async (h) => {
    assert.match(await h.notice('wechatdevtools'), /fakes/);
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded');
    await h.tap('postData');
    await h.states('failed');
    assert.match(await h.notice('box_failed'), /developer tools/);
  });

  pageCase('the demo works in any browser', { agent: 'browser', settings: { demo: true } }, async (h) => {
    await h.notice('demo');
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded', 'uploaded', 'uploaded');
  });

  // ---- who, where, what; language ----
  pageCase('team, name, note and position go with the submission and are remembered', { query: '?team=north' }, async (h) => {
    await h.page.click('#about summary');
    assert.equal(await h.page.inputValue('#team'), 'north');
    await h.page.fill('#contributor', '李明 & co');
    await h.page.fill('#note', 'second\nfloor=a+b');
    await h.page.click('#position');
    await h.page.waitForFunction(() => /Remove position 31\.23/.test(document.getElementById('position').textContent));
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded', 'uploaded', 'uploaded');
    await h.tap('postData');
    await h.states('saved', 'saved', 'saved');
    const [sent] = await mine(h);
    assert.deepEqual([sent.team, sent.contributor, sent.note, sent.latitude, sent.longitude], ['north', '李明 & co', 'second floor=a+b', '31.230416', '121.473701']);
    await h.page.goto(h.box.url + h.box.pagePath);
    assert.deepEqual([await h.page.inputValue('#team'), await h.page.inputValue('#contributor')], ['north', '李明 & co']);
    assert.match(await h.page.innerText('#about'), /Name, team/);
    assert.match(await h.page.textContent('#position'), /Attach/, 'a position is only sent after a tap');
  });

  pageCase('a position can be taken away again; a failed one is said', { plan: { choices: [1] } }, async (h) => {
    await h.page.click('#about summary');
    await h.page.click('#position');
    await h.page.waitForFunction(() => /Remove/.test(document.getElementById('position').textContent));
    await h.page.click('#position');
    assert.match(await h.page.innerText('#position'), /Attach/);
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded');
    await h.tap('postData');
    await h.states('saved');
    assert.equal((await mine(h))[0].latitude, '');
  });

  pageCase('a position that fails is said in the page', { plan: { location: null } }, async (h) => {
    await h.page.click('#about summary');
    await h.page.click('#position');
    assert.match(await h.notice('position_failed'), /Turn on location/);
  });

  pageCase('the length is shown while typing, and what is too long is not sent', { plan: { choices: [1] }, settings: { text_length_max: { team: 5, contributor: 64, note: 500 } } }, async (h) => {
    await h.page.click('#about summary');
    await h.page.fill('#team', '一二三😀五六');
    assert.equal(await h.page.innerText('#teamLabel'), 'Team 6/5 ✂');
    await h.choose();
    await h.tap('uploadImage');
    await h.states('uploaded');
    await h.tap('postData');
    await h.states('saved');
    assert.equal((await mine(h))[0].team, '一二三😀五');
  });

  pageCase('the language can be switched and is remembered', { lang: 'zh-CN' }, async (h) => {
    assert.match(await h.page.innerText('#chooseImage'), /选择照片/);
    await h.tap('language');
    await h.page.waitForFunction(() => document.getElementById('chooseImage').textContent === 'Choose');
    assert.equal(await h.page.getAttribute('html', 'lang'), 'en');
    await h.load();
    assert.equal(await h.page.innerText('#chooseImage'), 'Choose');
    assert.equal(await h.page.title(), 'Send pictures');
  });
});
