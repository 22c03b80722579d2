'use strict';
// A page script from before the box: three buttons, jQuery, one POST at the end. It knows neither cookie nor receipt, and works unchanged
// on the box's own origin after the page has been visited once.
const assert = require('node:assert/strict');
const fs = require('node:fs');
const { describe } = require('node:test');
const { pageCase } = require('./browser.js');

const JQUERY = fs.readFileSync(require.resolve('jquery/dist/jquery.min.js'), 'utf8');
const PAGE = `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<button id="chooseImage">choose</button> <button id="uploadImage">upload</button> <button id="postData">submit</button>
<div id="imgs"></div><div id="uploadImgs"></div>
<script src="https://res.wx.qq.com/open/js/jweixin-1.6.0.js"></script><script src="/jquery.js"></script><script src="/old.js"></script>`;

// Runs in the browser, as such pages were written.
function oldScript() {
  /* global $, wx, __config */
  wx.config({
    debug: false, appId: __config.appId, timestamp: __config.timestamp, nonceStr: __config.nonceStr, signature: __config.signature,
    jsApiList: ['chooseImage', 'previewImage', 'uploadImage', 'downloadImage'],
  });
  wx.ready(function () {
    var images = { localIds: [], serverIds: [] };
    $('#chooseImage').click(function () {
      wx.chooseImage({
        success: function (res) {
          images.localIds = res.localIds;
          $('#imgs').html($.map(res.localIds, function (id) { return '<p>' + id + '</p>'; }).join(''));
        },
      });
    });
    $('#uploadImage').click(function () {
      var i = 0;
      images.serverIds = [];
      function upload() {
        wx.uploadImage({
          localId: images.localIds[i],
          success: function (res) {
            i += 1;
            images.serverIds.push(res.serverId);
            $('#uploadImgs').append('<p>' + res.serverId + '</p>');
            if (i < images.localIds.length) upload();
          },
        });
      }
      upload();
    });
    $('#postData').click(function () {
      $.post('/uploadImgData', { data: JSON.stringify({ imgIds: images.serverIds }) }, function (answer) {
        window.__answers = (window.__answers || []).concat(answer);
      }, 'json');
    });
  });
}

async function openOld(h) {
  const config = await h.page.$eval('#jssdk-config', (x) => JSON.parse(x.textContent));
  const play = (path, contentType, body) => h.context.route(h.box.url + path, (route) => route.fulfill({ contentType, body }));
  await play('/old', 'text/html', PAGE);
  await play('/jquery.js', 'text/javascript', JQUERY);
  await play('/old.js', 'text/javascript', `var __config = ${JSON.stringify(config)}; (${oldScript})();`);
  await h.page.goto(h.box.url + '/old');
  // its signature was made for the page that gave it, which is no matter here
  await h.page.evaluate(() => { window.__wx.configs = []; });
}
const answers = (h, n) => h.page.waitForFunction((k) => (window.__answers || []).length === k && window.__answers, n).then((x) => x.jsonValue());

describe('an old page script', () => {
  pageCase('chooses, uploads, posts once, and gets rc 0; the pictures are saved', { lang: 'zh-CN' }, async (h) => {
    await openOld(h);
    await h.page.click('#chooseImage');
    await h.page.waitForSelector('#imgs p:nth-child(3)');
    await h.page.click('#uploadImage');
    await h.page.waitForSelector('#uploadImgs p:nth-child(3)');
    await h.page.click('#postData');
    const [answer] = await answers(h, 1);
    assert.deepEqual([answer.rc, answer.msg], [0, '上传成功']);
    await h.page.goto(`${h.box.url}/receipt/${answer.receipt}`);
    await h.states('saved', 'saved', 'saved');
    const [sent] = (await h.box.submissions()).filter((s) => s.receipt === answer.receipt);
    assert.deepEqual(sent.ids, h.ids.slice(1));
  });

  pageCase('posting without a picture is answered as it always was', { lang: 'zh-CN' }, async (h) => {
    await openOld(h);
    await h.page.click('#postData');
    assert.deepEqual((await answers(h, 1)).map((a) => [a.rc, a.msg]), [[1, '图片不能为空']]);
  });
});
