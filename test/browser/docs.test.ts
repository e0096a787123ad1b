/** The docs page in a real browser. Needs Chromium; without it this fails, as nothing else would tell that the page works. */
import { existsSync } from 'node:fs'
import { chromium, type Browser, type Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Fleet } from '../kit/fleet.ts'
import { startNodeFleet } from '../kit/host-node.ts'
import { print } from '../kit/turns.ts'

const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => existsSync(path))

describe('the docs page', () => {
  let fleet: Fleet
  let browser: Browser
  let page: Page
  const asked: string[] = []
  const complaints: string[] = []

  beforeAll(async () => {
    if (CHROMIUM === undefined) throw new Error('there is no Chromium: apt-get install chromium')
    fleet = await startNodeFleet()
    await fleet.runner({ turn: print(({ spec }) => [JSON.stringify({ type: 'result', result: spec.prompt })]) })
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] })
    page = await browser.newPage()
    page.on('request', (request) => asked.push(request.url()))
    page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()))
    page.on('pageerror', (error) => complaints.push(error.message))
    // As text: it runs in the page, whose types are not those of this project.
    const watch = "document.addEventListener('securitypolicyviolation', (e) => console.error('policy: ' + e.violatedDirective + ' ' + e.blockedURI))"
    await page.addInitScript({ content: watch })
  })
  afterAll(async () => {
    await browser?.close()
    await fleet?.close()
  })

  it('shows every operation', async () => {
    await page.goto(`${fleet.url}/docs`)
    await page.waitForSelector('.opblock-tag')
    const document = (await (await fleet.call('/openapi.json')).json()) as { paths: Record<string, object> }
    const tags = Object.values(document.paths).flatMap((methods) => Object.values(methods).flatMap(({ tags: its }: { tags: string[] }) => its))
    expect(await page.locator('.opblock-tag').count()).toBe(new Set(tags).size)
  })

  it('asks the router with the token that it is given', async () => {
    await page.click('button.authorize')
    await page.fill('.auth-container:has-text("bearer") input', fleet.token)
    await page.click('.auth-container:has-text("bearer") button[type=submit]')
    await page.click('.auth-btn-wrapper button.btn-done')

    await page.click('#operations-tag-runs')
    await page.click('[id$="-getRuns"] .opblock-summary-control')
    await page.click('[id$="-getRuns"] .try-out__btn')
    const [response] = await Promise.all([page.waitForResponse((answer) => new URL(answer.url()).pathname === '/v1/runs'), page.click('[id$="-getRuns"] .execute')])
    expect([response.status(), await response.json()]).toEqual([200, { data: [], next: null }])
    await page.waitForSelector('[id$="-getRuns"] .live-responses-table .response-col_status:has-text("200")')
  })

  it('starts a run with what it fills in', async () => {
    const start = '[id$="-postRuns"]'
    await page.click(`${start} .opblock-summary-control`)
    await page.click(`${start} .try-out__btn`)
    expect(JSON.parse(await page.inputValue(`${start} .body-param__text`))).toEqual({ prompt: 'Say hello.' })
    const answered = page.waitForResponse((answer) => new URL(answer.url()).pathname === '/v1/runs' && answer.request().method() === 'POST')
    const [response] = await Promise.all([answered, page.click(`${start} .execute`)])
    expect([response.status(), await response.json()]).toMatchObject([200, { status: 'succeeded', result: 'Say hello.' }])
  })

  it('keeps the token to itself: in no URL, and not longer than the page', async () => {
    expect(asked.filter((url) => url.includes(fleet.token))).toEqual([])
    const kept = await page.evaluate('JSON.stringify({ ...localStorage, ...sessionStorage }) + document.cookie')
    expect(kept).toBe('{}')
  })

  it('asks nobody but the router, and breaks no rule of its policy', () => {
    expect(asked.filter((url) => !url.startsWith(`${fleet.url}/`) && !url.startsWith('data:'))).toEqual([])
    expect(complaints).toEqual([])
  })
})
