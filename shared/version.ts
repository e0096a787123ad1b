/** Kept equal to package.json by a test: portable code cannot read files. */
export const VERSION = '0.1.0'
/** The wire protocol's subprotocol name and its versions, oldest and newest that this build speaks. */
export const SUBPROTOCOL = 'runyard.v1'
export const PROTO_MIN = 1
export const PROTO_MAX = 1
