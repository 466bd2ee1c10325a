// The sample service in Node, without dependencies. What it answers is described in ../python/app.py.
'use strict';
const dns = require('node:dns').promises;
const fs = require('node:fs').promises;
const http = require('node:http');
const os = require('node:os');

const failed = (error) => `error: ${error.message}`;

async function say(text, client) {
  // A breakpoint at the return shows the request and what the surroundings gave.
  const greeting = process.env.SAMPLE_GREETING ?? '';
  const file = await fs.readFile(process.env.SAMPLE_FILE ?? '/etc/sample/banner.txt', 'utf8').then((s) => s.trim(), failed);
  const address = await dns.lookup(process.env.SAMPLE_NAME ?? 'localhost', 4).then((found) => found.address, failed);
  return { text, greeting, file, address, hostname: os.hostname(), client, pid: process.pid, program: 'node' };
}

function call(url) {
  return new Promise((resolve) => {
    const request = http.get(url, { timeout: 10000 }, (answer) => {
      const parts = [];
      answer.on('data', (part) => parts.push(part));
      answer.on('end', () => resolve({ status: answer.statusCode, body: Buffer.concat(parts).toString() }));
    });
    request.on('timeout', () => request.destroy(new Error('timed out')));
    request.on('error', (error) => resolve({ error: error.message }));
  });
}

async function route(request) {
  const url = new URL(request.url, 'http://sample');
  switch (url.pathname) {
    case '/say':
      return say(url.searchParams.get('text') ?? '', request.socket.remoteAddress);
    case '/call':
      return call(url.searchParams.get('url') ?? '');
    case '/healthz':
      return { ok: true };
    default:
      return { error: 'no such path' };
  }
}

const server = http.createServer(async (request, answer) => {
  const body = JSON.stringify(await route(request));
  answer.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
  answer.end(body);
});
server.listen(Number(process.env.PORT ?? 80), '0.0.0.0', () => console.log(`sample service on port ${server.address().port}`));
