/*
 * A stand-in for WeChat's JS-SDK (jweixin 1.6.0), served by the tubox simulator. It gives a page in an ordinary
 * browser the `wx` object that WeChat's own browser would give it: chooseImage opens a file dialog, uploadImage
 * sends the bytes to the simulator that served this script, and wx.config has the simulator check the signature.
 *
 * It keeps to what a strict content security policy allows: nothing is evaluated, no markup is written, no style
 * attribute is set. It talks to its own origin only.
 *
 * What it does like the original
 *   - results go to `success`, `cancel` or `fail` by what follows the first colon of errMsg, then to `complete`
 *   - `ready` callbacks also run when config has failed; a late wx.ready(fn) runs at once
 *   - only the last wx.error(fn) counts
 *   - before a good config: "…:fail, the permission value is offline verifying"; an API that is not in
 *     jsApiList: "…:permission denied"
 *   - uploadImage takes one picture at a time; a page that does not wait is reported to the simulator's violations
 *
 * Quirks: from the query of this script's address (?flavour=ios&uploadNever=once), or at any time from the page
 * or a test: window.__tubox_wx_quirks = { … }. The object wins over the query, the query over the flavour.
 *
 *   flavour            "android" (the usual), "ios", "flaky"
 *   wxLateMs           milliseconds until window.wx appears (query only)
 *   configDelayMs      milliseconds until config is answered
 *   configNever        neither ready nor error ever fires
 *   configFails        config fails with this text after "config:", whatever the signature is
 *   errorNeverFires    the error handler is never called
 *   localIdsAsString   localIds is the text of a JSON list
 *   cancelAsFail       a dismissed dialog gives "chooseImage:fail cancel" in place of "chooseImage:cancel"
 *   chooseNever        chooseImage opens no dialog and never answers
 *   imgData            what getLocalImgData gives: "bare" base64 in lines (Android), "jgp" (iOS), "jpeg" (a
 *                      proper data address), "empty", "fail", "never"
 *   imgDataNever       "once", "always" or n (every nth call): no answer
 *   uploadNever        "once", "always" or n: neither success nor fail comes, and nothing is uploaded
 *   uploadFail         "once", "always" or n: uploadImage:fail
 *   uploadLost         "once", "always" or n: the picture arrives, its answer does not
 *   uploadDelayMs      milliseconds until an upload begins
 *   fakeServerId       every upload answers the constant id of the developer tools
 *   concurrentUpload   a second upload while one runs: "fail" (Android) or "never" (iOS)
 *   silentTipsHang     with isShowProgressTips: 0 nothing ever comes back
 *   idPrefix           what a localId begins with: "weixin://resourceid/" (Android), "wxLocalResource://imageid" (iOS)
 *   networkType        "wifi", "4g", "3g", "2g", "edge", "wwan"
 *   location           { latitude, longitude }, or "fail" or "cancel"
 *
 * For tests: window.__tubox_wx_log lists every call and every result, in order.
 */
(function () {
  "use strict";

  var DEVTOOLS_ID = "1237378768e7q8e7r8qwesafdasdfasdfaxss111";
  var FLAVOURS = {
    android: {
      imgData: "bare",
      concurrentUpload: "fail",
      networkType: "4g",
      idPrefix: "weixin://resourceid/"
    },
    ios: {
      imgData: "jgp",
      concurrentUpload: "never",
      networkType: "wifi",
      idPrefix: "wxLocalResource://imageid"
    },
    flaky: {
      imgData: "bare",
      imgDataNever: 4,
      localIdsAsString: true,
      concurrentUpload: "never",
      uploadNever: "once",
      uploadFail: 3,
      uploadDelayMs: 400,
      configDelayMs: 800,
      cancelAsFail: true,
      silentTipsHang: true,
      networkType: "2g",
      idPrefix: "weixin://resourceid/"
    }
  };
  var APIS = [
    "checkJsApi", "chooseImage", "previewImage", "uploadImage", "downloadImage", "getLocalImgData",
    "getNetworkType", "getLocation"
  ];

  // ---- where this script came from ---------------------------------------------------------------------------

  function ownAddress() {
    var own = document.currentScript;
    if (own && own.src) {
      return new URL(own.src, location.href);
    }
    var scripts = document.getElementsByTagName("script");
    for (var i = scripts.length - 1; i >= 0; i--) {
      if (/\/open\/js\/jweixin-[0-9.]+\.js/.test(scripts[i].src)) {
        return new URL(scripts[i].src, location.href);
      }
    }
    return new URL(location.href);
  }

  var address = ownAddress();
  var origin = address.origin;
  var fromQuery = readQuery(address.searchParams);

  function readQuery(parameters) {
    var quirks = {};
    parameters.forEach(function (value, name) {
      if (value === "true" || value === "false") {
        quirks[name] = value === "true";
      } else if (/^[0-9]+$/.test(value)) {
        quirks[name] = Number(value);
      } else {
        quirks[name] = value;
      }
    });
    return quirks;
  }

  function quirk(name) {
    var byHand = window.__tubox_wx_quirks || {};
    if (byHand[name] !== undefined) {
      return byHand[name];
    }
    if (fromQuery[name] !== undefined) {
      return fromQuery[name];
    }
    var flavour = FLAVOURS[name === "flavour" ? "android" : quirk("flavour")] || FLAVOURS.android;
    return name === "flavour" ? "android" : flavour[name];
  }

  var counts = {};

  // Whether a quirk that is "once", "always" or a number strikes at this call.
  function strikes(name) {
    var when = quirk(name);
    if (when === undefined || when === false || when === 0) {
      return false;
    }
    counts[name] = (counts[name] || 0) + 1;
    if (when === "always" || when === true) {
      return true;
    }
    return when === "once" ? counts[name] === 1 : counts[name] % when === 0;
  }

  var log = (window.__tubox_wx_log = window.__tubox_wx_log || []);

  function note(api, event, detail) {
    log.push({ api: api, event: event, detail: detail, at: Date.now() });
  }

  // ---- results -----------------------------------------------------------------------------------------------

  function later(act, milliseconds) {
    window.setTimeout(act, milliseconds || 0);
  }

  function call(callback, argument) {
    if (typeof callback !== "function") {
      return;
    }
    try {
      callback(argument);
    } catch (error) {
      // A page's own mistake must not end the stand-in; the browser reports it as uncaught all the same.
      later(function () { throw error; });
    }
  }

  function finish(api, options, outcome, fields) {
    var result = fields || {};
    result.errMsg = api + ":" + outcome;
    note(api, "result", result);
    if (outcome === "ok") {
      call(options.success, result);
    } else if (outcome === "cancel") {
      call(options.cancel, result);
    } else {
      call(options.fail, result);
    }
    call(options.complete, result);
  }

  function post(path, body, contentType) {
    var request = { method: "POST", mode: "cors", credentials: "omit", body: body };
    request.headers = { "Content-Type": contentType };
    return fetch(origin + path, request).then(function (response) {
      if (!response.ok) {
        throw new Error("status " + response.status);
      }
      return response.json();
    });
  }

  function reportViolation(text) {
    note("page", "violation", text);
    post("/sim/page-violation", JSON.stringify({ text: text }), "application/json").catch(function () {});
  }

  // ---- config, ready, error ----------------------------------------------------------------------------------

  var config = { state: "none", jsApiList: [], generation: 0 };
  var readyCallbacks = [];
  var errorCallback = null;
  var lastError = null;

  function configure(settings) {
    settings = settings || {};
    note("config", "call", { jsApiList: settings.jsApiList });
    config = { state: "verifying", jsApiList: [], generation: config.generation + 1 };
    var mine = config;
    if (!Array.isArray(settings.jsApiList)) {
      reportViolation("wx.config without a jsApiList");
    }
    var page = {
      appId: settings.appId,
      timestamp: settings.timestamp === undefined ? undefined : String(settings.timestamp),
      nonceStr: settings.nonceStr,
      signature: settings.signature,
      url: location.href.split("#")[0]
    };
    if (quirk("configNever")) {
      return;
    }
    later(function () {
      verify(page).then(function (errMsg) {
        if (mine === config) {
          settle(mine, errMsg, settings.jsApiList || []);
        }
      });
    }, quirk("configDelayMs"));
  }

  function verify(page) {
    var forced = quirk("configFails");
    if (forced) {
      return Promise.resolve("config:" + (forced === true ? "fail" : forced));
    }
    return post("/sim/check-signature", JSON.stringify(page), "application/json").then(
      function (verdict) { return verdict.errMsg || "config:fail"; },
      function () { return "config:fail"; }
    );
  }

  function settle(mine, errMsg, jsApiList) {
    var good = errMsg === "config:ok";
    mine.state = good ? "ok" : "failed";
    mine.jsApiList = good ? jsApiList : [];
    lastError = good ? null : { errMsg: errMsg };
    note("config", "result", { errMsg: errMsg });
    if (!good) {
      fireError();
    }
    // As in the original, ready belongs to config's completion, not to its success.
    var waiting = readyCallbacks;
    readyCallbacks = [];
    waiting.forEach(function (callback) { call(callback); });
  }

  function fireError() {
    if (errorCallback && lastError && !quirk("errorNeverFires")) {
      call(errorCallback, lastError);
    }
  }

  function ready(callback) {
    if (config.state === "ok" || config.state === "failed") {
      call(callback);
    } else {
      readyCallbacks.push(callback);
    }
  }

  function onError(callback) {
    errorCallback = callback;
    fireError();
  }

  // Calls `act` when the page may use `api`; otherwise answers as WeChat does.
  function permitted(api, options, act) {
    note(api, "call", summary(options));
    later(function () {
      if (config.state !== "ok") {
        finish(api, options, "fail, the permission value is offline verifying");
      } else if (api !== "checkJsApi" && config.jsApiList.indexOf(api) < 0) {
        finish(api, options, "permission denied");
      } else {
        act();
      }
    });
  }

  function summary(options) {
    var plain = {};
    Object.keys(options).forEach(function (name) {
      if (typeof options[name] !== "function") {
        plain[name] = options[name];
      }
    });
    return plain;
  }

  // ---- pictures on the phone ---------------------------------------------------------------------------------

  var files = new Map();
  var dialog = null;

  function newLocalId() {
    var bytes = new Uint8Array(16);
    crypto.getRandomValues(bytes);
    var digits = Array.from(bytes, function (byte) { return String(100 + (byte % 100)).slice(1); }).join("");
    return quirk("idPrefix") + digits;
  }

  function keep(blob) {
    var localId = newLocalId();
    files.set(localId, blob);
    return localId;
  }

  function chooseImage(options) {
    permitted("chooseImage", options, function () {
      if (!quirk("chooseNever")) {
        openDialog(options);
      }
    });
  }

  function openDialog(options) {
    var most = Math.min(9, Math.max(1, Number(options.count) || 9));
    if (dialog) {
      dialog.remove();
    }
    var input = document.createElement("input");
    dialog = input;
    input.type = "file";
    input.accept = "image/*";
    input.multiple = most > 1;
    input.hidden = true;
    input.setAttribute("data-tubox-wx", "chooseImage");
    var done = false;
    function close(answer) {
      if (done) {
        return;
      }
      done = true;
      input.remove();
      answer();
    }
    input.addEventListener("change", function () {
      var chosen = Array.from(input.files).slice(0, most);
      close(function () {
        if (chosen.length === 0) {
          dismissed(options);
        } else {
          giveLocalIds(options, chosen);
        }
      });
    });
    input.addEventListener("cancel", function () {
      close(function () { dismissed(options); });
    });
    document.documentElement.appendChild(input);
    input.click();
  }

  function dismissed(options) {
    finish("chooseImage", options, quirk("cancelAsFail") ? "fail cancel" : "cancel");
  }

  function giveLocalIds(options, chosen) {
    var localIds = chosen.map(keep);
    finish("chooseImage", options, "ok", {
      sourceType: "album",
      localIds: quirk("localIdsAsString") ? JSON.stringify(localIds) : localIds
    });
  }

  function getLocalImgData(options) {
    permitted("getLocalImgData", options, function () {
      var blob = files.get(options.localId);
      var form = quirk("imgData");
      if (form === "never" || strikes("imgDataNever")) {
        return;
      }
      if (!blob || form === "fail") {
        finish("getLocalImgData", options, "fail");
        return;
      }
      if (form === "empty") {
        finish("getLocalImgData", options, "ok", { localData: "" });
        return;
      }
      var reader = new FileReader();
      reader.onload = function () {
        finish("getLocalImgData", options, "ok", { localData: shapeImgData(String(reader.result), form) });
      };
      reader.onerror = function () { finish("getLocalImgData", options, "fail"); };
      reader.readAsDataURL(blob);
    });
  }

  function shapeImgData(dataAddress, form) {
    var base64 = dataAddress.slice(dataAddress.indexOf(",") + 1);
    if (form === "jgp") {
      return "data:image/jgp;base64," + base64;
    }
    if (form === "jpeg") {
      return "data:image/jpeg;base64," + base64;
    }
    return base64.replace(/(.{76})/g, "$1\n");
  }

  // ---- uploads -----------------------------------------------------------------------------------------------

  var uploading = false;

  function uploadImage(options) {
    permitted("uploadImage", options, function () {
      if (uploading) {
        reportViolation("wx.uploadImage was called while another upload was running");
        if (quirk("concurrentUpload") !== "never") {
          finish("uploadImage", options, "fail");
        }
        return;
      }
      if (strikes("uploadNever") || (options.isShowProgressTips === 0 && quirk("silentTipsHang"))) {
        return;
      }
      var blob = files.get(options.localId);
      if (!blob || strikes("uploadFail")) {
        finish("uploadImage", options, "fail");
        return;
      }
      uploading = true;
      later(function () { send(options, blob); }, quirk("uploadDelayMs"));
    });
  }

  function send(options, blob) {
    post("/sim/upload", blob, blob.type || "image/jpeg").then(
      function (answer) {
        uploading = false;
        if (!answer.media_id) {
          finish("uploadImage", options, "fail");
        } else if (!strikes("uploadLost")) {
          var serverId = quirk("fakeServerId") ? DEVTOOLS_ID : answer.media_id;
          finish("uploadImage", options, "ok", { serverId: serverId });
        }
      },
      function () {
        uploading = false;
        finish("uploadImage", options, "fail");
      }
    );
  }

  function downloadImage(options) {
    permitted("downloadImage", options, function () {
      fetch(origin + "/sim/uploaded/" + encodeURIComponent(String(options.serverId)), { credentials: "omit" })
        .then(function (response) {
          if (!response.ok) {
            throw new Error("status " + response.status);
          }
          return response.blob();
        })
        .then(
          function (blob) { finish("downloadImage", options, "ok", { localId: keep(blob) }); },
          function () { finish("downloadImage", options, "fail"); }
        );
    });
  }

  // ---- preview, network, location ----------------------------------------------------------------------------

  function previewImage(options) {
    permitted("previewImage", options, function () {
      var current = options.current || (options.urls || [])[0];
      if (!current) {
        finish("previewImage", options, "fail");
        return;
      }
      showPicture(String(current));
      finish("previewImage", options, "ok");
    });
  }

  // Styles are set one by one through the object model, which a style-src policy does not concern.
  function showPicture(source) {
    var shade = document.createElement("div");
    shade.setAttribute("data-tubox-wx", "previewImage");
    var styles = {
      position: "fixed", inset: "0", zIndex: "2147483647", background: "rgba(0, 0, 0, 0.9)",
      display: "flex", alignItems: "center", justifyContent: "center"
    };
    Object.keys(styles).forEach(function (name) { shade.style[name] = styles[name]; });
    var picture = document.createElement("img");
    var blob = files.get(source);
    picture.src = blob ? URL.createObjectURL(blob) : source;
    picture.alt = "";
    picture.style.maxWidth = "100%";
    picture.style.maxHeight = "100%";
    shade.appendChild(picture);
    shade.addEventListener("click", function () {
      shade.remove();
      if (blob) {
        URL.revokeObjectURL(picture.src);
      }
    });
    document.body.appendChild(shade);
  }

  function getNetworkType(options) {
    permitted("getNetworkType", options, function () {
      finish("getNetworkType", options, "ok", { networkType: quirk("networkType") });
    });
  }

  function getLocation(options) {
    permitted("getLocation", options, function () {
      var place = quirk("location");
      if (place === "fail" || place === "cancel") {
        finish("getLocation", options, place);
        return;
      }
      place = place || { latitude: 30.2741, longitude: 120.1551 };
      finish("getLocation", options, "ok", {
        latitude: place.latitude, longitude: place.longitude, speed: -1, accuracy: 65
      });
    });
  }

  function checkJsApi(options) {
    permitted("checkJsApi", options, function () {
      var checkResult = {};
      (options.jsApiList || []).forEach(function (api) {
        checkResult[api] = APIS.indexOf(api) >= 0 && (api === "checkJsApi" || config.jsApiList.indexOf(api) >= 0);
      });
      finish("checkJsApi", options, "ok", { checkResult: checkResult });
    });
  }

  // ---- the object --------------------------------------------------------------------------------------------

  function withOptions(act) {
    return function (options) { act(options || {}); };
  }

  var wx = {
    config: configure,
    ready: ready,
    error: onError,
    checkJsApi: withOptions(checkJsApi),
    chooseImage: withOptions(chooseImage),
    getLocalImgData: withOptions(getLocalImgData),
    uploadImage: withOptions(uploadImage),
    downloadImage: withOptions(downloadImage),
    previewImage: withOptions(previewImage),
    getNetworkType: withOptions(getNetworkType),
    getLocation: withOptions(getLocation),
    hideOptionMenu: function () {},
    showOptionMenu: function () {},
    hideMenuItems: withOptions(function (options) { finish("hideMenuItems", options, "ok"); }),
    closeWindow: function () { note("closeWindow", "call"); }
  };

  function appear() {
    window.__wxjs_is_wkwebview = quirk("flavour") === "ios";
    window.WeixinJSBridge = window.WeixinJSBridge || { tuboxStandIn: true };
    window.jWeixin = wx;
    window.wx = wx;
    document.dispatchEvent(new Event("WeixinJSBridgeReady"));
  }

  if (fromQuery.wxLateMs) {
    later(appear, fromQuery.wxLateMs);
  } else {
    appear();
  }
})();
