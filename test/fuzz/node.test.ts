import { nodeHost } from '../kit/host-node.ts'
import { fuzz } from './fuzz.ts'

fuzz(nodeHost, 1_500)
