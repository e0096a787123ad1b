import { workersHost } from '../kit/host-workers.ts'
import { fuzz } from './fuzz.ts'

fuzz(workersHost, 500)
