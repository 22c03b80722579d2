'use strict';
// How the page looks and reads to everybody: axe-core's rules in light and dark, small screens, large text, touch targets.
const assert = require('node:assert/strict');
const fs = require('node:fs');
const { describe } = require('node:test');
const { pageCase } = require('./browser.js');

const AXE = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
async function accessible(h, where) {
  await h.page.evaluate(AXE); // by the debugger, so that the page's policy stays as strict as it is
  await h.page.waitForTimeout(350); // colours that are still changing are no colours to measure
  const found = await h.page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  const told = found.violations.map((v) => `${where}: ${v.id}: ${v.nodes.map((n) => n.html + ' ' + n.failureSummary).join('; ')}`);
  assert.deepEqual(told, []);
}
// One page with every state on it: saved, submitted, failed by the box, not uploaded, uploaded, chosen.
const EVERY = {
  plan: { choices: [4, 1, 1], uploads: { 4: Array(5).fill('fail:network error') }, network: '3g' },
  fates: { 2: 'waiting', 3: 'failed' }, query: '?team=north',
};
async function everyState(h) {
  await h.choose();
  await h.tap('uploadImage');
  await h.states('uploaded', 'uploaded', 'uploaded', 'failed');
  await h.tap('postData');
  await h.states('saved', 'submitted', 'failed', 'failed');
  await h.choose();
  await h.tap('uploadImage');
  await h.states('saved', 'submitted', 'failed', 'failed', 'uploaded');
  await h.choose();
  await h.page.click('#about summary');
}
const sideways = (h) => h.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);

describe('the look', { concurrency: 2 }, () => {
  for (const colorScheme of ['light', 'dark']) {
    for (const lang of ['zh-CN', 'en']) {
      pageCase(`axe finds nothing in any state (${colorScheme}, ${lang})`, Object.assign({ colorScheme, lang }, EVERY), async (h) => {
        await accessible(h, 'empty');
        await everyState(h);
        await accessible(h, 'every state');
        await h.page.click('#receipts a');
        await h.states('saved', 'submitted', 'failed');
        await accessible(h, 'receipt');
      });
    }
    pageCase(`axe finds nothing outside WeChat (${colorScheme})`, { colorScheme, agent: 'browser' }, (h) => accessible(h, 'outside'));
  }

  for (const [lang, size] of [['en', '100%'], ['zh-CN', '100%'], ['en', '200%']]) {
    pageCase(`320 px wide, text ${size}, ${lang}: nothing sideways, every target 44 px`, Object.assign({}, EVERY, { lang, viewport: { width: 320, height: 568 } }), async (h) => {
      await everyState(h);
      await h.page.evaluate((s) => { document.documentElement.style.fontSize = s; }, size);
      assert.ok((await sideways(h)) <= 0, 'the page scrolls sideways');
      const small = await h.page.$$eval('button, a, input:not([type=checkbox]), textarea, summary, label:has(input)', (all) => all.filter((x) => x.offsetParent)
        .map((x) => [x.id || x.className || x.tagName, x.getBoundingClientRect()]).filter((x) => x[1].width < 44 || x[1].height < 44)
        .map((x) => `${x[0]} ${x[1].width}x${x[1].height}`));
      assert.deepEqual(small, []);
    });
  }

  pageCase('every control has a visible focus and is reached by the keyboard', {}, async (h) => {
    await h.choose();
    const reached = [];
    for (let i = 0; i < 12; i++) {
      await h.page.keyboard.press('Tab');
      reached.push(await h.page.evaluate(() => {
        const x = document.activeElement;
        return getComputedStyle(x).outlineStyle === 'none' ? 'no outline: ' + (x.id || x.className) : x.id || x.className || x.tagName;
      }));
    }
    for (const id of ['language', 'remove', 'original', 'SUMMARY', 'chooseImage', 'uploadImage', 'postData']) assert.ok(reached.indexOf(id) >= 0, `${id} in ${reached}`);
  });

  pageCase('what happens is announced', { plan: { choices: [1] } }, async (h) => {
    const live = await h.page.$$eval('[role=status], [aria-live]', (all) => all.map((x) => x.id));
    for (const id of ['notices', 'advice']) assert.ok(live.indexOf(id) >= 0, id);
    await h.choose();
    assert.equal(await h.page.getAttribute('[data-picture="1"] .remove', 'aria-label'), 'Remove: Picture 1');
    assert.equal(await h.page.getAttribute('[data-picture="1"] img', 'alt'), 'Picture 1');
  });
});
