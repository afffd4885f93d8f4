// Opens a page in a headless Chromium and says as JSON what came of it: what it tried to load, what
// ran, whether it fits a narrow screen, what axe finds, what the keyboard reaches, how it prints.
//
// node check.mjs BROWSER PAGE.html [PICTURES-DIRECTORY]
import { createRequire } from "node:module";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const [browserPath, file, pictures] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const address = pathToFileURL(file).href;

const browser = await puppeteer.launch({
  executablePath: browserPath,
  headless: "shell",
  // Root has no user namespace to hide in; the page is our own and loads nothing.
  args: ["--no-sandbox", "--disable-gpu"],
});

async function open(width, scheme) {
  const page = await browser.newPage();
  const said = { requests: [], errors: [], dialogs: 0 };
  page.on("request", (request) => said.requests.push(request.url()));
  page.on("pageerror", (error) => said.errors.push(String(error)));
  page.on("console", (message) => said.errors.push(message.text()));
  page.on("dialog", (dialog) => { said.dialogs += 1; dialog.dismiss(); });
  await page.setViewport({ width, height: 800 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(address, { waitUntil: "load" });
  return [page, said];
}

const result = { requests: [], errors: [], dialogs: 0, widths: {}, violations: [], checked: 0 };
for (const width of [360, 768, 1280]) {
  for (const scheme of ["light", "dark"]) {
    const [page, said] = await open(width, scheme);
    result.requests.push(...said.requests.filter((url) => url !== address));
    result.widths[width] = await page.evaluate(() => document.documentElement.scrollWidth);
    if (pictures) await page.screenshot({ path: join(pictures, `${width}-${scheme}.png`), fullPage: true });
    // By the debugger's own door: the page's policy lets no script in.
    await page.evaluate(axe);
    const found = await page.evaluate(() => globalThis.axe.run());
    result.checked += found.passes.length;
    for (const each of found.violations) {
      const nodes = each.nodes.slice(0, 3).map((node) => `${node.html}: ${node.failureSummary}`);
      result.violations.push({ width, scheme, id: each.id, nodes });
    }
    result.errors.push(...said.errors);
    result.dialogs += said.dialogs;
    result.scripts = await page.evaluate(() => document.scripts.length);
    result.elements = await page.evaluate(() =>
      [...new Set([...document.querySelectorAll("*")].map((each) => each.localName))].sort());
    result.handlers = await page.evaluate(() =>
      [...document.querySelectorAll("*")].flatMap((each) => each.getAttributeNames())
        .filter((name) => name.startsWith("on") || name === "style").length);
    result.ran = await page.evaluate(() => globalThis.hostile ?? null);
    result.text = await page.evaluate(() => document.body.textContent);
    await page.close();
  }
}

const [page] = await open(1280, "light");
result.swallowed = await page.evaluate(() => document.querySelectorAll("rect *, path *").length);
const sizes = await page.evaluate(() =>
  [...document.querySelectorAll("svg text")].map((each) => each.getBoundingClientRect().width));
result.words = sizes.length;
result.unseen = sizes.filter((width) => width === 0).length;
result.focus = [];
for (let step = 0; step < 8; step += 1) {
  await page.keyboard.press("Tab");
  const at = await page.evaluate(() => {
    const element = document.activeElement;
    const outline = getComputedStyle(element).outlineStyle;
    return element === document.body ? null : { href: element.getAttribute("href"), outline };
  });
  if (at) result.focus.push(at);
}
const printed = await page.pdf({ format: "A4" });
result.pages = printed.length > 0 ? (Buffer.from(printed).toString("latin1").match(/\/Type\s*\/Page[^s]/g) ?? []).length : 0;
if (pictures) writeFileSync(join(pictures, "print.pdf"), printed);
await page.emulateMediaType("print");
result.printed = await page.evaluate(() => {
  const style = (selector) => {
    const element = document.querySelector(selector);
    return element && getComputedStyle(element).display;
  };
  return { navigation: style("nav"), background: getComputedStyle(document.body).backgroundColor };
});
await browser.close();
process.stdout.write(JSON.stringify(result));
