/** The operations of the OpenAPI document, as far as the isolation test looks at them. */
import type { Fleet } from '../kit/fleet.ts'

export interface Operation {
  readonly name: string
  readonly method: string
  readonly path: string
  readonly open: boolean
  readonly inPath: string[]
  readonly inQuery: string[]
  /** Of those, which it cannot do without. */
  readonly needed: string[]
  readonly inBody: string[] | undefined
}

/** Every operation of the document that the router gives of itself. */
export async function described(fleet: Pick<Fleet, 'call'>): Promise<Operation[]> {
  type Schema = { $ref?: string; properties?: Record<string, unknown>; oneOf?: Schema[]; anyOf?: Schema[]; allOf?: Schema[] }
  type Described = {
    security?: unknown[]
    parameters?: { in: string; name: string; required?: boolean }[]
    requestBody?: { content: Record<string, { schema: Schema }> }
  }
  const document = (await (await fleet.call('/openapi.json')).json()) as {
    paths: Record<string, Record<string, Described>>
    components: { schemas: Record<string, Schema> }
  }
  const fields = (schema: Schema): string[] => {
    const named = schema.$ref === undefined ? schema : document.components.schemas[schema.$ref.split('/').at(-1)!]!
    return [
      ...Object.keys(named.properties ?? {}),
      ...[...(named.oneOf ?? []), ...(named.anyOf ?? []), ...(named.allOf ?? [])].flatMap(fields),
    ]
  }
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { security, parameters = [], requestBody }]) => {
      const named = (where: string) => parameters.filter((p) => p.in === where).map((p) => p.name)
      const schema = requestBody?.content['application/json']?.schema
      return {
        name: `${method} ${path}`,
        method,
        path,
        open: security?.length === 0,
        inPath: named('path'),
        inQuery: named('query'),
        needed: parameters.filter((p) => p.in === 'query' && p.required === true).map((p) => p.name),
        inBody: schema && [...new Set(fields(schema))],
      }
    }),
  )
}
