'use strict';
// What the server says is put into the page as text only, never as markup: a path, a user's name or a group may be anything.

const $ = id => document.getElementById(id);
const key = 'wstunnel.token';
const pageOf = 1000, mostTunnels = 20000, mostEvents = 300, silence = 40000;

const state = {
  token: sessionStorage.getItem(key), session: null, overview: null, count: 0,
  tunnels: new Map(), gone: new Set(), round: 0, more: false, view: [], terms: [], sort: 'since', down: true,
  events: [], kind: 'tunnels', open: null, spark: [], cursor: null, back: null,
};

// Elements, numbers and times.

function el(tag, props, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) name in e ? e[name] = value : e.setAttribute(name, value);
  e.append(...children.filter(c => c !== null && c !== undefined).map(c => c instanceof Node ? c : String(c)));
  return e;
}
function svg(tag, attrs, ...children) {
  const e = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attrs || {})) e.setAttribute(name, value);
  e.append(...children);
  return e;
}
const whole = new Intl.NumberFormat('en'), short = new Intl.NumberFormat('en', {notation: 'compact', maximumFractionDigits: 1});
const number = n => n >= 100000 ? short.format(n) : whole.format(n < 10 ? Math.round(n * 10) / 10 : Math.round(n));
function bytes(n) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let i = 0;
  while (n >= 999.5 && i < units.length - 1) n /= 1000, i++;
  return (i > 0 && n < 99.5 ? n.toFixed(1).replace(/\.0$/, '') : Math.round(n)) + ' ' + units[i];
}
function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000)), two = n => String(n).padStart(2, '0');
  if (s < 60) return s + ' s';
  if (s < 3600) return Math.floor(s / 60) + ' min ' + two(s % 60);
  if (s < 86400) return Math.floor(s / 3600) + ' h ' + two(Math.floor(s % 3600 / 60));
  return Math.floor(s / 86400) + ' d ' + two(Math.floor(s % 86400 / 3600)) + ' h';
}
const clock = t => new Date(t).toLocaleTimeString('en-GB');
const sum = values => values.reduce((a, b) => a + b, 0);
const fill = (id, text) => { const e = $(id); if (e.textContent !== text) e.textContent = text; };
const sleep = (ms, signal) => new Promise(done => {
  const timer = setTimeout(done, ms);
  signal.addEventListener('abort', () => { clearTimeout(timer); done(); }, {once: true});
});

// Asking the server.

class Refused extends Error {
  constructor(status, text) { super(text); this.status = status; }
}
async function request(path, options = {}) {
  const r = await fetch(path, {...options, cache: 'no-store', headers: {...options.headers, Authorization: 'Bearer ' + state.token}});
  if (r.ok) return r;
  let text = r.status + ' ' + r.statusText;
  try { text = (await r.json()).errors.join('\n'); } catch { /* it is no answer of the desk's */ }
  throw new Refused(r.status, text);
}
const ask = async (path, options) => (await request(path, options)).json();
function why(e) {
  if (!(e instanceof Refused)) return 'The server does not answer.';
  if (e.status === 401) return 'The server does not know this token.';
  if (e.status === 403) return 'This token may not do that: ' + e.message;
  return e.message;
}

// Signing in and out.

function signIn(error) {
  state.session?.abort();
  state.session = null;
  state.token = null;
  sessionStorage.removeItem(key);
  closePanel();
  $('confirm').close();
  pill('', '');
  for (const id of ['board', 'forget', 'live']) $(id).hidden = true;
  $('login').hidden = false;
  $('token').value = '';
  fill('login-error', error || '');
  fill('server', location.host);
  $('token').focus();
}
$('login-form').addEventListener('submit', async event => {
  event.preventDefault();
  state.token = $('token').value.trim();
  if (!/^[!-~]+$/.test(state.token)) return signIn('The server does not know this token.'); // nor could it be sent
  try {
    state.overview = await ask('v1/overview');
  } catch (e) {
    signIn(why(e));
    return;
  }
  sessionStorage.setItem(key, state.token);
  begin();
});
$('forget').addEventListener('click', () => signIn());

function begin() {
  state.session?.abort();
  const session = state.session = new AbortController();
  Object.assign(state, {tunnels: new Map(), events: [], view: [], round: 0, listed: false, listing: false, gone: new Set()});
  $('login').hidden = true;
  for (const id of ['board', 'forget', 'live']) $(id).hidden = false;
  pill('', 'connecting');
  if (state.overview) showOverview(state.overview);
  live(session.signal);
  look(session.signal);
  drawAll();
  followHash();
}

// The stream of events, which is begun again, later each time, when it ends.

function pill(kind, text) { $('live').className = 'pill ' + kind; fill('live', text); fill('again', ''); }

async function live(signal) {
  for (let wait = 1000; !signal.aborted; wait = Math.min(wait * 2, 30000)) {
    let text = 'The server has let go.';
    try {
      await watch(signal, () => wait = 1000);
    } catch (e) {
      if (signal.aborted) return;
      if (e.status === 401) return signIn(why(e));
      if (e.status === 403) return signIn(why(e));
      text = why(e);
    }
    const until = Date.now() + wait * (0.8 + Math.random() * 0.4);
    while (Date.now() < until && !signal.aborted) {
      pill('bad', 'server is away');
      fill('again', 'again in ' + Math.ceil((until - Date.now()) / 1000) + ' s');
      notice(text + ' What is shown is from ' + clock(state.overview?.time || Date.now()) + '.');
      await sleep(Math.min(500, Math.max(10, until - Date.now())), signal);
    }
  }
}
async function watch(signal, begun) {
  const stop = new AbortController();
  signal.addEventListener('abort', () => stop.abort(), {once: true});
  let timer = setTimeout(() => stop.abort(), silence);
  try {
    const reader = (await request('v1/events', {signal: stop.signal})).body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '', first = true;
    for (;;) {
      const {value, done} = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => stop.abort(), silence);
      if (first) {
        first = false;
        begun();
        pill('good', 'live');
        notice('');
        state.listed = false;
        list(stop.signal);
      }
      const parts = (rest + value).split('\n\n');
      rest = parts.pop();
      for (const part of parts) {
        const at = part.indexOf('\ndata: ');
        if (at >= 0) happened(JSON.parse(part.slice(at + 7)));
      }
    }
  } finally {
    clearTimeout(timer);
    stop.abort();
  }
}
function notice(text) { $('notice').hidden = !text; fill('notice', text); }

function happened(e) {
  switch (e.event) {
  case 'opened': case 'arrived':
    state.count++;
    e.tunnel.fresh = performance.now();
    merge(e.tunnel);
    break;
  case 'closed': case 'moved':
    state.count = Math.max(0, state.count - 1);
    if (state.listing) state.gone.add(e.tunnel.id);
    state.tunnels.delete(e.tunnel.id);
    break;
  case 'joined': case 'left':
    merge(e.tunnel);
    break;
  case 'missed':
    state.round++; // the next round finds out
    break;
  case 'reloaded': case 'reload_failed': case 'drain': case 'drain_ended': case 'server_up': case 'server_down':
    overviewSoon();
  }
  state.events.unshift(e);
  if (state.events.length > mostEvents) state.events.length = mostEvents;
  if (e.tunnel?.id === state.open) {
    if (e.event === 'closed' || e.event === 'moved') ended(e);
    drawLife();
  }
  soon();
}

// The tunnels: all of them once, and then again a page at a time, for what flows.

async function list(signal) {
  while (!signal.aborted) {
    const round = ++state.round, began = performance.now();
    let after = '', n = 0;
    state.listing = true;
    try {
      do {
        const page = await ask('v1/tunnels?limit=' + pageOf + after, {signal});
        for (const t of page.tunnels) if (!state.gone.has(t.id)) merge(t);
        n += page.tunnels.length;
        after = page.next ? '&after=' + encodeURIComponent(page.next) : '';
        state.more = after !== '' && n >= mostTunnels;
        soon();
        if (state.listed && after) await sleep(700, signal);
      } while (after && !state.more && !signal.aborted);
      if (round === state.round && !signal.aborted) {
        for (const [id, t] of state.tunnels) if (t.round < round) state.tunnels.delete(id);
        state.listed = true;
        soon();
      }
    } catch {
      // The stream says what is wrong.
    }
    if (signal.aborted) return;
    state.listing = false;
    state.gone.clear();
    do await sleep(Math.max(500, 3000 - (performance.now() - began)), signal); while (document.hidden && !signal.aborted);
  }
}
function merge(t) {
  const now = performance.now(), old = state.tunnels.get(t.id);
  t.at = now;
  t.round = state.round;
  t.born = Date.parse(t.since);
  t.text = [t.id, t.user, t.site, t.host, t.path, t.client, t.backend, ...t.groups].join('\n').toLowerCase();
  t.in = t.out = t.flow = 0;
  if (old) {
    t.fresh = old.fresh;
    const passed = (now - old.at) / 1000;
    if (passed < 0.4) {
      Object.assign(t, {in: old.in, out: old.out, flow: old.flow, at: old.at, to_backend: old.to_backend, to_client: old.to_client});
    } else {
      t.in = Math.max(0, t.to_backend.messages - old.to_backend.messages) / passed;
      t.out = Math.max(0, t.to_client.messages - old.to_client.messages) / passed;
      t.flow = Math.max(0, t.to_backend.bytes + t.to_client.bytes - old.to_backend.bytes - old.to_client.bytes) / passed;
    }
  }
  state.tunnels.set(t.id, t);
  return t;
}

const columns = [
  {name: 'User', by: 'user', is: t => t.user || null},
  {name: 'Site and path', by: 'site', is: t => t.site + t.path, of: t => t.site + '\n' + t.path},
  {name: 'Groups', by: 'group', of: t => t.groups.join(), chips: true},
  {name: 'Client', by: 'client', is: t => t.client},
  {name: 'Idle', by: 'idle', is: t => span(t.idle_ms + performance.now() - t.at), of: t => t.idle_ms - t.at, right: true},
  {name: 'Open', by: 'since', is: t => span(Date.now() - t.born), of: t => t.born, right: true},
  {name: 'In/s', by: 'in', is: t => number(t.in), of: t => t.in, right: true},
  {name: 'Out/s', by: 'out', is: t => number(t.out), of: t => t.out, right: true},
  {name: 'Traffic/s', by: 'flow', is: t => bytes(t.flow), of: t => t.flow, right: true},
];
for (const [i, c] of columns.entries()) {
  const button = el('button', {type: 'button', textContent: c.name});
  button.addEventListener('click', () => {
    state.down = state.sort === c.by ? !state.down : Boolean(c.right);
    state.sort = c.by;
    $('scroll').scrollTop = 0;
    drawView();
  });
  $('columns').append(el('div', {role: 'columnheader', className: 'c' + i + (c.right ? ' right' : ''), 'aria-colindex': i + 1}, button));
}

function chosen(t) {
  for (const [name, value] of state.terms) {
    switch (name) {
    case 'user': case 'site': if (!t[name].toLowerCase().startsWith(value)) return false; break;
    case 'group': if (!t.groups.some(g => g.toLowerCase().startsWith(value))) return false; break;
    case 'client': case 'path': case 'backend': case 'id': if (!t[name].toLowerCase().includes(value)) return false; break;
    default: if (!t.text.includes(value)) return false;
    }
  }
  return true;
}
function setFilter(text) {
  $('filter').value = text;
  state.terms = text.toLowerCase().split(/\s+/).filter(Boolean).map(term => {
    const [, name, value] = /^(user|site|group|client|path|backend|id):(.*)$/.exec(term) || [null, '', term];
    return [name, value];
  });
  $('scroll').scrollTop = 0;
  drawView();
}
$('filter').addEventListener('input', () => setFilter($('filter').value));

function drawView() {
  const of = columns.find(c => c.by === state.sort), value = of.of || (t => t[of.by]), sign = state.down ? -1 : 1;
  const found = [];
  for (const t of state.tunnels.values()) if (chosen(t)) t.sorts = value(t), found.push(t);
  found.sort((a, b) => a.sorts < b.sorts ? -sign : a.sorts > b.sorts ? sign : b.born - a.born || (a.id < b.id ? 1 : -1));
  state.view = found;
  for (const [i, c] of columns.entries()) $('columns').children[i].setAttribute('aria-sort', c.by !== state.sort ? 'none' : state.down ? 'descending' : 'ascending');
  const all = state.tunnels.size;
  fill('count', (found.length === all ? number(all) : number(found.length) + ' of ' + number(all)) + (state.more ? ', the oldest' : ''));
  $('none').hidden = found.length > 0;
  $('scroll').hidden = found.length === 0;
  fill('none', all ? 'No tunnel is like that.' : 'No tunnel is open.');
  drawRows();
}

// Of the rows only those exist that are seen; each belongs to a tunnel as long as that is.

const rows = new Map(), spare = [];
let rowHeight = 46;
function newRow() {
  const row = el('div', {className: 'row', role: 'row', tabIndex: -1});
  for (const [i, c] of columns.entries()) row.append(el('div', {role: 'gridcell', className: 'c' + i + (c.right ? ' right' : '')}));
  $('rows').append(row);
  return row;
}
function drawRows() {
  const scroll = $('scroll'), view = state.view;
  rowHeight = parseInt(getComputedStyle(document.documentElement).getPropertyValue('--row'), 10);
  $('rows').style.height = view.length * rowHeight + 'px';
  scroll.style.height = 'min(' + (view.length * rowHeight + 1) + 'px, 72vh, 620px)';
  $('grid').setAttribute('aria-rowcount', view.length + 1);
  $('columns').style.paddingRight = 20 + scroll.offsetWidth - scroll.clientWidth + 'px';
  const first = Math.max(0, Math.floor(scroll.scrollTop / rowHeight) - 2), last = Math.min(view.length, first + Math.ceil(scroll.clientHeight / rowHeight) + 5);
  const seen = new Set();
  for (let i = first; i < last; i++) seen.add(view[i].id);
  for (const [id, row] of rows) {
    if (seen.has(id)) continue;
    if (row === document.activeElement) scroll.focus({preventScroll: true});
    row.hidden = true;
    rows.delete(id);
    spare.push(row);
  }
  const cursor = seen.has(state.cursor) ? state.cursor : view[first]?.id;
  for (let i = first; i < last; i++) {
    const t = view[i];
    let row = rows.get(t.id);
    if (!row) {
      row = spare.pop() || newRow();
      row.hidden = false;
      row.classList.toggle('fresh', performance.now() - t.fresh < 1600);
      rows.set(t.id, row);
    }
    row.dataset.id = t.id;
    row.style.transform = 'translateY(' + i * rowHeight + 'px)';
    row.tabIndex = t.id === cursor ? 0 : -1;
    row.setAttribute('aria-rowindex', i + 2);
    row.setAttribute('aria-selected', t.id === state.open);
    for (const [n, c] of columns.entries()) drawCell(row.children[n], c, t);
  }
}
function drawCell(cell, c, t) {
  if (c.chips) {
    const joined = t.groups.join('\n');
    if (cell.dataset.is === joined) return;
    cell.dataset.is = joined;
    cell.replaceChildren(...t.groups.map(g => el('span', {className: 'chip', textContent: g})));
    return;
  }
  const text = c.is(t) ?? '–';
  if (cell.textContent !== text) cell.textContent = text;
  cell.classList.toggle('zero', c.by === 'user' && !t.user || Boolean(c.of && !c.of(t) && c.right));
}
$('scroll').tabIndex = -1;
$('scroll').addEventListener('scroll', drawRows, {passive: true});
$('rows').addEventListener('click', event => {
  const row = event.target.closest('.row');
  if (row) show(row.dataset.id);
});
$('grid').addEventListener('keydown', event => {
  const row = event.target.closest('#rows .row'), page = Math.max(1, Math.floor($('scroll').clientHeight / rowHeight) - 1);
  const move = {ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity}[event.key];
  if (row && (event.key === 'Enter' || event.key === ' ')) {
    event.preventDefault();
    show(row.dataset.id);
  } else if (move && (row || event.target === $('scroll')) && state.view.length) {
    event.preventDefault();
    const at = state.view.findIndex(t => t.id === (row?.dataset.id ?? state.cursor));
    const to = Math.min(state.view.length - 1, Math.max(0, at + move)), scroll = $('scroll'), top = to * rowHeight;
    state.cursor = state.view[to].id;
    if (top < scroll.scrollTop) scroll.scrollTop = top;
    if (top + rowHeight > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = top + rowHeight - scroll.clientHeight;
    drawRows();
    rows.get(state.cursor)?.focus({preventScroll: true});
  }
});

// A tunnel in the panel.

const show = id => { state.cursor = id; location.hash = 'tunnel/' + encodeURIComponent(id); };
function followHash() {
  const id = /^#tunnel\/([\w-]+)$/.exec(location.hash)?.[1];
  if (id && state.session) openPanel(id); else closePanel();
}
addEventListener('hashchange', followHash);
async function openPanel(id) {
  if (state.open === id) return;
  if (!state.open) state.back = document.activeElement;
  Object.assign(state, {open: id, spark: [], shown: state.tunnels.get(id)});
  $('panel').hidden = false;
  $('panel-ended').hidden = true;
  fill('said', '');
  drawPanel();
  drawRows();
  $('panel-title').focus();
  const signal = state.session.signal;
  while (state.open === id && !signal.aborted) {
    try {
      state.shown = merge(await ask('v1/tunnels/' + encodeURIComponent(id), {signal}));
      if (state.spark.push(state.shown) > 60) state.spark.shift();
    } catch (e) {
      if (state.open !== id || signal.aborted) return;
      if (e.status === 404 || e.status === 410) {
        state.tunnels.delete(id);
        return ended(state.events.find(e => e.tunnel?.id === id && e.event === 'closed'));
      }
    }
    if (state.open !== id) return;
    drawPanel();
    await sleep(1000, signal);
  }
}
function closePanel() {
  if (!state.open) return;
  const id = state.open;
  state.open = null;
  $('panel').hidden = true;
  if (location.hash.startsWith('#tunnel/')) history.replaceState(null, '', location.pathname + location.search);
  drawRows();
  (rows.get(id) || state.back || $('filter')).focus({preventScroll: true});
}
function ended(e) {
  $('panel-ended').hidden = false;
  fill('panel-ended', e ? 'Ended at ' + clock(e.time) + ': ' + sentence(e, true) : 'This tunnel has ended, or never was.');
  for (const control of $('say').elements) control.disabled = true;
}
function drawPanel() {
  const t = state.shown, id = state.open;
  fill('panel-title', t ? t.user || 'Tunnel ' + id : 'Tunnel ' + id);
  fill('panel-sub', t ? t.site + t.path : '');
  const may = verb => state.overview?.may.includes(verb);
  if ($('panel-ended').hidden) {
    for (const control of $('say').elements) control.disabled = control.id === 'kick' ? !may('kick') : !may('send') || t && !t.pushable;
    if (!may('send')) fill('said', 'This token has not the verb send.');
    else if (t && !t.pushable) fill('said', 'Nothing can be pushed into this tunnel.');
  }
  const choose = (name, value) => {
    const button = el('button', {type: 'button', textContent: value, title: 'Show all of this ' + name});
    button.addEventListener('click', () => { closePanel(); setFilter(name + ':' + value); $('filter').focus(); });
    return button;
  };
  const facts = t ? [
    ['Id', el('code', {textContent: t.id})], ['User', t.user ? choose('user', t.user) : '–'],
    ['Groups', t.groups.length ? el('span', {}, ...t.groups.flatMap(g => [choose('group', g), ' '])) : '–'],
    ['Client', el('span', {}, choose('client', t.client.replace(/:\d+$/, '')), t.tls ? ' over TLS' : '')], ['Host', t.host], ['Path', t.path],
    ['Site', el('span', {}, choose('site', t.site), ' ' + t.location)], ['Backend', t.backend + (t.mode === 'relay' ? ', relayed' : '')],
    ['Protocol', t.subprotocol || '–'], ['Open since', new Date(t.born).toLocaleString('en-GB') + ', ' + span(Date.now() - t.born)],
    ['Idle', span(t.idle_ms)],
    ['To backend', number(t.to_backend.messages) + ' messages, ' + bytes(t.to_backend.bytes) + ' (' + number(t.in) + '/s)'],
    ['To client', number(t.to_client.messages) + ' messages, ' + bytes(t.to_client.bytes) + ' (' + number(t.out) + '/s)'],
  ] : [];
  const has = document.activeElement?.closest('#facts'); // whoever has the keyboard there keeps it
  if (!has) $('facts').replaceChildren(...facts.flatMap(([name, value]) => [el('dt', {textContent: name}), el('dd', {}, value)]));
  drawSpark();
  drawLife();
}
function drawSpark() {
  const box = $('panel-spark'), w = box.clientWidth, h = box.clientHeight - 16, values = state.spark.slice(1).map(t => [t.in, t.out]);
  const most = Math.max(1, ...values.flat()), x = i => w - (values.length - 1 - i) * (w / 60), y = v => h - v / most * h;
  const lines = [0, 1].map(n => svg('path', {class: 'line s' + n, d: values.map((v, i) => (i ? 'L' : 'M') + x(i).toFixed(1) + ' ' + y(v[n]).toFixed(1)).join('')}));
  box.replaceChildren(svg('svg', {viewBox: '0 0 ' + w + ' ' + h, 'aria-hidden': 'true'}, ...(values.length > 1 ? lines : [])));
}
function drawLife() {
  const told = state.events.filter(e => e.tunnel?.id === state.open), t = state.shown;
  const items = told.map(e => el('li', {}, el('time', {textContent: clock(e.time)}), el('span', {textContent: sentence(e, true)})));
  if (t && !told.some(e => e.event === 'opened')) items.push(el('li', {}, el('time', {textContent: clock(t.born)}), el('span', {textContent: 'opened'})));
  $('life').replaceChildren(...items);
}
$('panel-close').addEventListener('click', closePanel);

$('say').addEventListener('submit', async event => {
  event.preventDefault();
  const id = state.open, text = $('text').value;
  $('send').disabled = true;
  try {
    const p = await ask('v1/tunnels/' + encodeURIComponent(id) + '/messages', {method: 'POST', headers: {'Content-Type': 'text/plain; charset=utf-8'}, body: text});
    fill('said', p.written ? 'Sent: it is on its way to the browser.' : 'It waits for its place between the messages of the tunnel.');
    state.events.unshift({event: 'said', time: Date.now(), tunnel: {id}, text});
    $('text').value = '';
    drawLife();
  } catch (e) {
    fill('said', why(e));
  }
  $('send').disabled = !$('panel-ended').hidden;
});
$('text').addEventListener('keydown', event => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) $('say').requestSubmit();
});
let toKick = null;
$('kick').addEventListener('click', () => {
  toKick = state.open;
  fill('confirm-who', (state.shown?.user || 'Nobody named') + ', ' + toKick);
  $('confirm').showModal();
  $('confirm-yes').focus();
});
$('confirm-no').addEventListener('click', () => $('confirm').close());
$('confirm-form').addEventListener('submit', async event => {
  event.preventDefault();
  $('confirm').close();
  const query = new URLSearchParams({code: $('code').value, reason: $('reason').value});
  try {
    await ask('v1/tunnels/' + encodeURIComponent(toKick) + '?' + query, {method: 'DELETE'});
    fill('said', 'It is being closed with ' + $('code').value + '.');
  } catch (e) {
    fill('said', why(e));
  }
});
addEventListener('keydown', event => {
  const typing = event.target.closest('input, textarea');
  if (event.key === 'Escape' && !$('confirm').open) {
    if (state.open) closePanel(); else if (typing === $('filter')) { setFilter(''); $('filter').blur(); }
  } else if (event.key === '/' && !typing && !$('board').hidden && !$('confirm').open) {
    event.preventDefault();
    $('filter').focus();
  }
});

// What the overview says.

let lookNow = () => {};
const overviewSoon = () => lookNow();
async function look(signal) {
  while (!signal.aborted) {
    try {
      showOverview(await ask('v1/overview', {signal}));
    } catch (e) {
      if (e.status === 401) return signIn(why(e));
    }
    do {
      await Promise.race([sleep(5000, signal), new Promise(done => lookNow = () => setTimeout(done, 200))]);
    } while (document.hidden && !signal.aborted);
  }
}
function showOverview(o) {
  state.overview = o;
  state.count = o.tunnels;
  const s = o.server, h = o.hour, last = values => values.length ? values[values.length - 1] : null, per = v => v / h.step_seconds;
  fill('server', s ? location.host + ' · ' + s.version + ' · up ' + span(s.uptime_seconds * 1000) : location.host);
  document.title = number(o.tunnels) + ' tunnels · wstunnel';
  const tile = (name, figure, more) => { fill('now-' + name, figure); fill('now-' + name + '-more', more); };
  const waits = 'counted from now on', has = h.tunnels.length > 0;
  fill('now-tunnels-more', has ? 'peak ' + number(Math.max(o.tunnels, ...h.tunnels)) + ' in the last hour' : waits);
  tile('messages', has ? number(per(last(h.messages_in) + last(h.messages_out))) : '–', has ? 'in ' + number(per(last(h.messages_in))) + ' · out ' + number(per(last(h.messages_out))) : waits);
  tile('bytes', has ? bytes(per(last(h.bytes_in) + last(h.bytes_out))) : '–', has ? 'in ' + bytes(per(last(h.bytes_in))) + ' · out ' + bytes(per(last(h.bytes_out))) : waits);
  tile('opened', has ? number(sum(h.opened.slice(-6))) : '–', has ? 'closed ' + number(sum(h.closed.slice(-6))) + '/min' : waits);
  tile('requests', has ? number(per(last(h.requests))) : '–', has ? number(sum(h.failed)) + ' handshakes failed' : waits);
  drawChart();
  drawCards(o);
  soon();
}
function drawCards(o) {
  const none = text => [el('li', {className: 'muted', textContent: text})];
  const dot = kind => el('span', {className: 'dot ' + kind, 'aria-hidden': 'true'});
  const states = {up: 'good', unseen: 'warn', off: 'muted', ejected: 'bad', down: 'bad'};
  const backends = o.upstreams.flatMap(u => u.servers.map(b => ({...b, upstream: u.name, shared: u.shared}))), up = backends.filter(b => b.state === 'up').length;
  fill('backends-sum', backends.length ? up + ' of ' + backends.length + ' up' : '');
  const worst = backends.sort((a, b) => (a.state === 'up') - (b.state === 'up'));
  $('backends').replaceChildren(...(worst.length ? worst.map(b => el('li', {}, dot(states[b.state] || 'bad'),
    el('span', {className: 'name', textContent: b.address, title: b.address}), el('span', {className: 'num', textContent: b.shared ? 'shared' : number(b.tunnels) + ' tunnels'}),
    el('span', {className: 'under'}, el('span', {className: states[b.state] || 'bad', textContent: b.state}), ' · ' + b.upstream +
      (b.failures ? ' · ' + number(b.failures) + ' failed' : '') + (b.state !== 'up' ? ' · ' + (b.last_check || b.reason || '') : '')))) : none('No backend has been asked yet.')));
  const days = o.certificates;
  fill('certificates-sum', days.length ? days.length + (days.length === 1 ? ' host' : ' hosts') : '');
  $('certificates').replaceChildren(...(days.length ? days.map(c => {
    const kind = c.days < 7 ? 'bad' : c.days < 21 ? 'warn' : 'good';
    return el('li', {}, dot(kind), el('span', {className: 'name', textContent: c.host || 'on demand', title: c.host}),
      el('span', {className: 'num ' + (kind === 'good' ? '' : kind), textContent: c.days < 0 ? 'ended' : c.days + (c.days === 1 ? ' day' : ' days')}));
  }) : none('None is in use.')));
  const bars = (id, items, total) => $(id).replaceChildren(...(items.length ? items.map(([name, n, text, filter]) => {
    const label = el('span', {className: 'name', textContent: name, title: name});
    return el('li', {}, label, el('span', {className: 'num muted', textContent: text}), el('progress', {max: total || 1, value: n, 'aria-label': name + ': ' + text}));
  }) : none('Nothing yet.')));
  const reasons = o.hour.reasons.map(r => [r.reason, r.n]), all = sum(reasons.map(r => r[1]));
  fill('reasons-sum', all ? number(all) + ' in the last hour' : '');
  bars('reasons', reasons.map(([name, n]) => [name, n, number(n) + ' · ' + (n < all / 100 ? '< 1' : Math.round(n / all * 100)) + ' %']), all);
  fill('sites-sum', o.sites.length + (o.sites.length === 1 ? ' site' : ' sites'));
  const most = Math.max(1, ...o.sites.map(s => s.tunnels));
  bars('sites', o.sites.slice(0, 30).map(s => [s.site, s.tunnels, number(s.tunnels) + ' tunnels · ' + bytes(s.bytes) + '/s']), most);
  drawConfig(o);
}
function drawConfig(o) {
  const r = o.last_reload, s = o.server;
  if (!r || !s) return $('config').replaceChildren(el('p', {className: 'muted', textContent: 'This token is for some sites only.'}));
  const pairs = [['File', s.config.split('/').pop()], ['Sites', number(s.sites)], ['Read', clock(r.time) + ', ' + span(Date.now() - Date.parse(r.time)) + ' ago'],
    ['New clients', s.ready ? 'welcome' : 'sent elsewhere'], ['Drained', s.draining.join(', ') || 'nothing'], ['Process', s.pid + ''],
    ...s.predecessors.map(p => ['Left in ' + p.pid, number(p.tunnels) + ' tunnels'])];
  $('config').replaceChildren(...[
    el('p', {className: 'verdict'}, el('span', {className: 'dot ' + (r.ok ? 'good' : 'bad'), 'aria-hidden': 'true'}), r.ok ? 'What is on disk was read and is served' : 'The last reload failed; an older configuration is served'),
    r.ok ? null : el('pre', {textContent: r.errors.join('\n')}), el('dl', {className: 'pairs'}, ...pairs.flatMap(([name, value]) => [el('dt', {textContent: name}), el('dd', {textContent: value})])),
  ].filter(Boolean));
}
function sentence(e, alone) {
  const who = e.tunnel && !alone ? (e.tunnel.user || 'tunnel ' + e.tunnel.id) + ' ' : '', scope = e.server ? e.server + ' of ' + e.upstream : e.site || 'everything';
  switch (e.event) {
  case 'opened': return who + 'opened' + (alone ? '' : ' ' + e.tunnel.site + e.tunnel.path);
  case 'closed': return who + 'closed: ' + e.cause + ' by the ' + e.closed_by + ', ' + e.code + ', after ' + span(e.duration_ms || 0);
  case 'joined': return who + 'joined ' + e.group;
  case 'left': return who + 'left ' + e.group;
  case 'arrived': return who + 'arrived from the process before';
  case 'moved': return who + 'moved to the next process';
  case 'said': return 'you said: ' + e.text;
  case 'reloaded': return 'the configuration was reloaded';
  case 'reload_failed': return 'a reload failed: ' + (e.errors || []).join('; ');
  case 'drain': return 'a drain of ' + scope + ' began';
  case 'drain_ended': return 'the drain of ' + scope + ' was taken back';
  case 'upgrade': return 'another process has taken over: ' + e.reason;
  case 'upgrade_failed': return 'an upgrade failed: ' + (e.errors || []).join('; ');
  case 'server_up': return scope + ' is up';
  case 'server_down': return scope + ' is down: ' + e.reason;
  case 'stopping': return 'the server stops';
  case 'missed': return number(e.n) + ' events came too fast to be shown';
  }
  return e.event;
}

// The chart of the hour.

const kinds = {
  tunnels: ['Tunnels', [['Tunnels', h => h.tunnels, 'tunnels ']], number],
  messages: ['Messages', [['To backends, in a second', h => h.messages_in.map(v => v / h.step_seconds), 'in '], ['To clients', h => h.messages_out.map(v => v / h.step_seconds), 'out ']], number],
  traffic: ['Traffic', [['To backends, in a second', h => h.bytes_in.map(v => v / h.step_seconds), 'in '], ['To clients', h => h.bytes_out.map(v => v / h.step_seconds), 'out ']], bytes],
  opened: ['Opens and closes', [['Opened, in 10 seconds', h => h.opened, 'opened '], ['Closed', h => h.closed, 'closed ']], number],
  requests: ['Requests', [['Requests, in a second', h => h.requests.map(v => v / h.step_seconds), 'requests '], ['Handshakes that failed', h => h.failed.map(v => v / h.step_seconds), 'failed ']], number],
};
for (const [name, [title]] of Object.entries(kinds)) {
  const button = el('button', {type: 'button', textContent: title, 'aria-pressed': name === state.kind});
  button.addEventListener('click', () => {
    state.kind = name;
    for (const other of $('kinds').children) other.setAttribute('aria-pressed', other === button);
    drawChart();
  });
  $('kinds').append(button);
}
const chart = {at: null};
function drawChart() {
  const h = state.overview?.hour, box = $('chart'), w = box.clientWidth, height = box.clientHeight;
  if (!h || !w) return;
  const [title, series, text] = kinds[state.kind], values = series.map(([, of]) => of(h)), n = h.tunnels.length, left = 58, bottom = 24, top = 8;
  $('legend').replaceChildren(...series.map(([name], i) => el('span', {}, el('i', {className: 'key s' + i}), name)));
  box.setAttribute('aria-label', title + ' over the last hour' + (n ? ': now ' + values.map(v => text(v[n - 1])).join(' and ') + ', at most ' + values.map(v => text(Math.max(...v))).join(' and ') : ''));
  let most = Math.max(state.kind === 'traffic' ? 10 : 4, ...values.flat()), step = 10 ** Math.floor(Math.log10(most / 4));
  step *= [1, 2, 2.5, 5, 10].find(f => step * f * 4 >= most);
  most = step * 4;
  const points = 3600 / h.step_seconds, x = i => left + (w - left - 4) * (points - n + i) / (points - 1), y = v => top + (height - top - bottom) * (1 - v / most);
  const parts = [];
  for (let i = 0; i <= 4; i++) {
    parts.push(svg('line', {class: 'axis', x1: left, x2: w, y1: y(step * i), y2: y(step * i)}), svg('text', {class: 'tick', x: left - 10, y: y(step * i) + 4, 'text-anchor': 'end'}, text(step * i)));
  }
  for (let m = 60; m >= 0; m -= w < 520 ? 30 : 10) {
    const at = left + (w - left - 4) * (60 - m) / 60;
    parts.push(svg('text', {class: 'tick', x: at, y: height - 4, 'text-anchor': m === 0 ? 'end' : m === 60 ? 'start' : 'middle'}, m ? '−' + m + ' min' : 'now'));
  }
  for (const [i, v] of values.entries()) {
    if (n < 2) break;
    const d = v.map((value, k) => (k ? 'L' : 'M') + x(k).toFixed(1) + ' ' + y(value).toFixed(1)).join('');
    parts.push(svg('path', {class: 'area s' + i, d: d + 'L' + x(n - 1).toFixed(1) + ' ' + y(0) + 'L' + x(0).toFixed(1) + ' ' + y(0) + 'Z'}), svg('path', {class: 'line s' + i, d}));
  }
  const at = chart.at === null || !n ? null : Math.min(n - 1, Math.max(0, chart.at));
  let tip = null;
  if (at !== null) {
    parts.push(svg('line', {class: 'cross', x1: x(at), x2: x(at), y1: top, y2: height - bottom}), ...values.map((v, i) => svg('circle', {class: 'mark s' + i, cx: x(at), cy: y(v[at]), r: 4.5})));
    const says = clock(Date.parse(h.until) - (n - 1 - at) * h.step_seconds * 1000) + ' · ' + values.map((v, i) => series[i][2] + text(v[at])).join(' · ');
    tip = el('div', {className: 'tip', textContent: says, 'aria-hidden': 'true'});
    fill('chart-says', says);
  }
  box.replaceChildren(svg('svg', {viewBox: '0 0 ' + w + ' ' + height, 'aria-hidden': 'true'}, ...parts));
  if (tip) {
    box.append(tip);
    tip.style.left = Math.max(0, Math.min(w - tip.offsetWidth, x(at) - tip.offsetWidth / 2)) + 'px';
  }
  if (n < 2) box.append(el('p', {className: 'empty', textContent: 'The first points come within half a minute.'}));
  chart.index = px => Math.round((px - left) / (w - left - 4) * (points - 1)) - (points - n);
  chart.last = n - 1;
}
$('chart').addEventListener('pointermove', event => { chart.at = chart.index?.(event.clientX - $('chart').getBoundingClientRect().left) ?? null; drawChart(); });
$('chart').addEventListener('pointerleave', () => { chart.at = null; drawChart(); });
$('chart').addEventListener('blur', () => { chart.at = null; drawChart(); });
$('chart').addEventListener('keydown', event => {
  const move = {ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30, Home: -Infinity, End: Infinity}[event.key];
  if (!move || !(chart.last >= 0)) return;
  event.preventDefault();
  chart.at = Math.max(0, Math.min(chart.last, (chart.at ?? chart.last) + move));
  drawChart();
});

// Drawing: as often as there is something new, but no more than four times a second, so that the page stays quick.

let due = 0;
function soon() { due ||= setTimeout(() => { due = 0; drawAll(); }, 250); }
function drawAll() {
  if ($('board').hidden) return;
  fill('now-tunnels', number(Math.max(state.count, 0)));
  drawView();
  const told = state.events.slice(0, 60).map(e => el('li', {}, el('time', {textContent: clock(e.time)}), el('span', {textContent: sentence(e), title: sentence(e)})));
  $('events').replaceChildren(...(told.length ? told : [el('li', {className: 'muted', textContent: 'Nothing since this page was opened.'})]));
}
setInterval(() => { if (!document.hidden && state.session && !due) drawRows(); }, 1000);
new ResizeObserver(() => { drawChart(); drawRows(); }).observe($('chart'));

if (state.token) begin(); else signIn();
