'use strict';
// All cases in one process, so that they share one browser and one box. `node --test page.test.js` runs one file by itself.
for (const part of ['core', 'seed', 'demo', 'look', 'page', 'admin']) require(`./${part}.test.js`);
